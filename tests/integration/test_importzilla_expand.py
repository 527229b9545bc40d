"""``manage.py importzilla`` with asyncapi and openapi bindings: what it writes, and what a second time changes."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from kafkaproxy.admin.imports_run import prepare
from kafkaproxy.models import Cluster, Entry, Gateway, Route, Topic
from tests.zilla_apis import COMPOSITES, PETS
from tests.zilla_samples import edited, line_of

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
