"""``manage.py importzilla`` with asyncapi and openapi bindings: what it writes, and what a second time changes."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command

from kafkaproxy.admin.pages.imports import prepare
from kafkaproxy.asgi import KafkaProxy
from kafkaproxy.models import Cluster, Entry, Gateway, Route, Topic
from kafkaproxy.routing.compile import load_configuration
from kafkaproxy.routing.matching import Match
from kafkaproxy.serving.runtime import Table
from tests.support.proxy import site
from tests.support.zilla_apis import COMPOSITES, PETS
from tests.support.zilla_samples import edited, line_of

pytestmark = pytest.mark.django_db

NAMES = ["asyncapi", "openapi", "streams"]


def _run(path: Path, *arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("importzilla", str(path), *arguments, stdout=out, **options)
    return out.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_importing_twice_changes_nothing(name: str) -> None:
    path = COMPOSITES / name / "zilla.yaml"
    _run(path)
    assert Route.objects.exists()
    for row in [*Cluster.objects.all(), *Gateway.objects.all(), *Entry.objects.all(), *Route.objects.all()]:
        row.full_clean()
    assert "Nothing to change: everything is as in the file." in _run(path)


def test_a_file_becomes_rows_in_the_order_of_its_document() -> None:
    _run(COMPOSITES / "asyncapi" / "zilla.yaml")
    gateway = Gateway.objects.get()
    assert (gateway.name, gateway.guard.name if gateway.guard else None) == ("desk", "staff")
    assert gateway.access_control.policy == "cross-origin"
    tickets, status = gateway.entries.all()
    assert [route.name for route in tickets.routes.all()] == [
        "post-api-tickets",
        "delete-api-tickets-id",
        "get-api-tickets-id",
    ]
    assert [route.topic for route in status.routes.all()] == ["desk-status"]
    cluster = Cluster.objects.get()
    assert (cluster.name, cluster.bootstrap_servers, cluster.security_protocol) == ("kafka", "broker.example:9093", "SSL")
    assert list(Topic.objects.order_by("name").values_list("name", "bootstrap")) == [
        ("desk-status", True),
        ("desk-tickets", True),
    ]


def test_an_edited_specification_changes_what_was_edited(tmp_path: Path) -> None:
    shutil.copytree(COMPOSITES / "openapi", tmp_path / "shop")
    path, specification = tmp_path / "shop" / "zilla.yaml", tmp_path / "shop" / "specs" / "kafka.yaml"
    _run(path)
    specification.write_text(specification.read_text().replace("address: shop-answers", "address: shop-replies"))
    said = _run(path)
    assert "shop-replies" in said
    assert Route.objects.exclude(reply_to="").get().reply_to == "shop-replies"


def test_schemas_are_left_unchecked_only_where_that_is_asked_for(tmp_path: Path) -> None:
    body = "                  requestBody: {content: {application/json: {schema: {type: object}}}}\n"
    path = tmp_path / "zilla.yaml"
    path.write_text(
        edited(PETS, ("                  operationId: savePet\n", f"                  operationId: savePet\n{body}"))
    )
    errors = io.StringIO()
    with pytest.raises(CommandError):
        _run(path, stderr=errors)
    assert f"refused  zilla.yaml:{line_of(path.read_text(), 'requestBody')}: Requests or events" in errors.getvalue()
    assert not Gateway.objects.exists()
    assert "Requests or events are not checked" in _run(path, "--without-schemas")
    assert Gateway.objects.exists()


def test_the_admin_imports_what_stands_in_the_text_and_reads_no_file() -> None:
    outcome = prepare(PETS, "pasted.yaml", "", "")
    assert outcome.refusals == ()
    assert outcome.changes is not None
    assert "create route pets/pets/get-pets" in [str(each).partition(":")[0] for each in outcome.changes.visible]
    text = (COMPOSITES / "openapi" / "zilla.yaml").read_text()
    (refusal,) = prepare(text, "pasted.yaml", "", "").refusals
    assert refusal.startswith(f"pasted.yaml:{line_of(text, 'path: specs/api.yaml')}: ")
    assert "inline" in refusal


ANSWERS = {
    "asyncapi": {
        "GET /api/status": "get-api-status",
        "POST /api/tickets": "401",
        "DELETE /api/tickets/1": "401",
        "PUT /api/status": "untouched",
        "GET /status": "untouched",
        "GET /tickets/1": "untouched",
    },
    "openapi": {
        "GET /v1/items": "get-v1-items",
        "GET /v1/items/1": "get-v1-items-id",
        "HEAD /v1/items/1": "untouched",
        "DELETE /v1/items/1": "delete-v1-items-id",
        "POST /v1/orders": "post-v1-orders",
        "GET /v1/orders;cid=1": "post-v1-orders",
        "GET /v1/items/1/2": "untouched",
        "GET /items": "untouched",
    },
    "streams": {
        "POST /pay": "401",
        "GET /balance": "401",
        "GET /news/sport": "stream-news-topic",
        "POST /news/sport": "untouched",
        "GET /news": "untouched",
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_requests_find_the_operations_that_serve_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_USER", "KAFKA_PASSWORD"):
        monkeypatch.setenv(variable, "a:1")
    _run(COMPOSITES / name / "zilla.yaml")
    table = Table(load_configuration())
    running: Any = SimpleNamespace(table=table, streams=SimpleNamespace(watch_signals=lambda: None), consumer=_answer)
    app = KafkaProxy(site, running=lambda: running)

    async def ask_all() -> dict[str, str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost:7114") as client:
            return {ask: _outcome(await client.request(*ask.split(" "))) for ask in ANSWERS[name]}

    assert asyncio.run(ask_all()) == ANSWERS[name]


def _answer(match: Match) -> Callable[..., Awaitable[None]]:
    """Answer for a route with its name."""

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"route", match.route.name.encode())]})
        await send({"type": "http.response.body", "body": b""})

    return answer


def _outcome(answer: httpx.Response) -> str:
    """Return the name of the route, ``untouched`` where the site has answered, or else the status."""
    return answer.headers.get("route") or ("untouched" if answer.status_code == 299 else str(answer.status_code))
