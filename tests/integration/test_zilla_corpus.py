"""Every file of the corpus: what its import says, what it answers and refuses, and what comes back from an export."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import httpx
import pytest
from django.db.models import Value
from django.db.models.functions import Concat
from jwt.algorithms import ECAlgorithm

from kafkaproxy.asgi import KafkaProxy
from kafkaproxy.models import Cluster, Gateway, Route, Topic
from kafkaproxy.routing.compile import load_configuration
from kafkaproxy.routing.matching import Match
from kafkaproxy.routing.table import Configuration
from kafkaproxy.serving.runtime import Runtime, Table
from kafkaproxy.zilla.exporter.exporting import differences, export_gateway
from kafkaproxy.zilla.exporter.stored import plan_of, read_gateway
from kafkaproxy.zilla.importer.importing import Options, plan_file, plan_text
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import Verdict
from kafkaproxy.zilla.sync.apply import apply_plan
from tests.kafka import Cluster as KafkaCluster
from tests.kafka import Consumed
from tests.support.proxy import site
from tests.support.tokens import sign
from tests.support.zilla_corpus import FOLDER, Ask, Case, cases, said

pytestmark = pytest.mark.django_db

CASES: Final = cases()
IMPORTED: Final = [case for case in CASES if not case.is_refused]
WITH_RECORDS: Final = [case for case in IMPORTED if any(ask.record for ask in case.requests)]
UNTOUCHED: Final = "untouched"
_KEY: Final = ECAlgorithm.from_jwk(
    {
        "kty": "EC",
        "crv": "P-256",
        "x": "D6fbmL98WVMxVCe7qZnWJVLj_wh3_daJs2ij2Z-aBNI",
        "y": "2kG3MQj1bZJqPoprSylDCocHSrNylQrB2uzpHd1kSLc",
        "d": "FHMK1ooWMW0434acWX-hPU4y7mS9xUb8iuGgf5W8s8g",
    }
)
"""The private half of the key that the corpus' guards know. It protects nothing."""


def _named(case: Case) -> str:
    return case.name


def _plan(case: Case) -> Plan:
    return _planned(case.path, tuple(case.environ.items()))


@cache
def _planned(path: Path, environ: tuple[tuple[str, str], ...]) -> Plan:
    plan, report = plan_file(path, Options(environ=dict(environ)))
    assert not report.is_refused(), list(report.lines())
    return plan


@pytest.fixture
def configuration(case: Case, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    """The compiled table of a file."""
    for name, value in case.environ.items():
        monkeypatch.setenv(name, value)
    apply_plan(_plan(case))
    return load_configuration()


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_an_import_says_what_is_expected_and_nothing_else(case: Case) -> None:
    assert said(case) == case.says


@pytest.mark.parametrize("case", [case for case in CASES if case.is_refused], ids=_named)
def test_what_is_refused_names_its_line_and_a_way_out_and_imports_nothing(case: Case) -> None:
    plan, report = plan_file(case.path, Options(environ=case.environ))
    assert plan == Plan()
    lines = case.path.read_text().splitlines()
    for finding in report.findings:
        assert 0 < finding.where.line <= len(lines)
    for line in case.says["refused"].splitlines():
        assert line.endswith("."), "a sentence that says what to do"


@pytest.mark.parametrize("case", IMPORTED, ids=_named)
def test_a_second_import_changes_nothing(case: Case) -> None:
    apply_plan(_plan(case))
    before = list(Route.objects.order_by("pk").values())
    changes = apply_plan(_plan(case))
    assert changes.visible == ()
    assert list(Route.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("case", IMPORTED, ids=_named)
def test_an_export_comes_back_as_it_is_or_says_what_it_loses(case: Case) -> None:
    apply_plan(_plan(case))
    lost = []
    for gateway in Gateway.objects.all():
        export = export_gateway(gateway, case.dialect)
        lost += [f"{each.verdict} {each}" for each in export.report.findings if each.verdict is not Verdict.WARNING]
        if lost:
            continue
        again, report = plan_text(export.text, "zilla.yaml", Options(environ=case.environ))
        assert not report.is_refused(), list(report.lines())
        stored = plan_of(read_gateway(gateway.name))
        assert {field for _, field in differences(stored, again)} <= {"sasl_password"}  # never written
    assert lost == list(case.loses)


@pytest.mark.parametrize("case", [case for case in IMPORTED if case.requests], ids=_named)
def test_requests_find_the_routes_that_serve_them(case: Case, configuration: Configuration) -> None:
    app = KafkaProxy(site, running=lambda: _running(configuration))

    async def ask_all() -> dict[str, str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
            return {_title(each): _outcome(each, await _ask(client, each)) for each in case.requests}

    assert asyncio.run(ask_all()) == {_title(each): each.outcome for each in case.requests}


def test_every_file_that_is_imported_has_requests_that_are_answered_or_refused() -> None:
    assert [case.name for case in IMPORTED if not case.requests] == []


def _title(ask: Ask) -> str:
    return f"{ask.ask} at {ask.at} {dict(ask.fields)} {ask.token}"


def _running(configuration: Configuration) -> Any:
    """Return what stands for a process without a worker: it answers with the name of the route."""
    return SimpleNamespace(table=Table(configuration), streams=SimpleNamespace(watch_signals=lambda: None), consumer=_answer)


def _answer(match: Match) -> Callable[..., Awaitable[None]]:
    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"route", match.route.name.encode())]})
        await send({"type": "http.response.body", "body": b""})

    return answer


async def _ask(client: httpx.AsyncClient, ask: Ask) -> httpx.Response:
    method, _, path = ask.ask.partition(" ")
    fields = dict(ask.fields)
    if ask.token is not None:
        token = _token(ask)
        if "{token}" not in path:
            fields["authorization"] = f"Bearer {token}"
        path = path.replace("{token}", token)
    return await client.request(method, f"{ask.at}{path}", headers=fields, content=ask.body.encode(), timeout=60)


def _token(ask: Ask) -> str:
    claims = {"iss": "https://issuer.example", "aud": "https://shop.example", "exp": time.time() + 3600}
    return sign({**claims, **(ask.token or {})}, kid="corpus", key=_KEY)


def _outcome(ask: Ask, answer: httpx.Response) -> str:
    for name, value in ask.answers.items():
        assert answer.headers[name] == value, ask
    if answer.status_code == 299:  # the site's own
        return UNTOUCHED
    return answer.headers.get("route") or str(answer.status_code)


@pytest.fixture(scope="module")
def suffix(kafka: KafkaCluster) -> Iterator[str]:
    """What is added to the names of topics: everything goes to the same few of them."""
    suffix = f"-corpus-{uuid.uuid4().hex[:8]}"
    topics = [kafka.create_topic(f"{name}{suffix}") for name in ("items", "replies")]
    yield suffix
    kafka.delete_topics(topics)


@pytest.fixture
def real_configuration(configuration: Configuration, kafka: KafkaCluster, suffix: str) -> Configuration:
    """The table of a file, led to the test's own broker and topics."""
    del configuration
    plain = dict.fromkeys(("sasl_mechanism", "sasl_username", "sasl_password", "ssl_ca"), "")
    Cluster.objects.update(bootstrap_servers=kafka.bootstrap, security_protocol="PLAINTEXT", **plain)
    Topic.objects.all().delete()
    Route.objects.update(topic=Concat("topic", Value(suffix)))
    Route.objects.exclude(reply_to="").update(reply_to=Concat("reply_to", Value(suffix)))
    return load_configuration()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A process that takes over one configuration after another, as a site does after each import."""
    running = Runtime(store_dir=tmp_path_factory.mktemp("store"))
    yield running
    running.worker.close()


@pytest.mark.parametrize("case", WITH_RECORDS, ids=_named)
def test_records_are_what_the_file_says(
    case: Case, real_configuration: Configuration, runtime: Runtime, kafka: KafkaCluster, suffix: str
) -> None:
    asks = [ask for ask in case.requests if ask.record is not None]
    runtime.configure(real_configuration)
    before = len(kafka.consume(f"items{suffix}"))
    app = KafkaProxy(site, running=lambda: runtime)
    replying = _Replying(kafka, suffix, real_configuration.gateways[0].correlation_header)

    async def ask_all() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
            return [await _ask_and_reply(client, ask, replying, before + number) for number, ask in enumerate(asks, 1)]

    assert asyncio.run(ask_all()) == [ask.status for ask in asks]
    for ask, record in zip(asks, kafka.consume(f"items{suffix}")[before:], strict=True):
        assert ask.record is not None
        _check_record(ask.record, record, suffix)


@dataclass(frozen=True)
class _Replying:
    """A service behind the topic of requests."""

    kafka: KafkaCluster
    suffix: str
    header: str

    def reply(self, count: int) -> None:
        """Wait until there are so many requests, and reply to the last one."""
        last = self.kafka.wait_for(f"items{self.suffix}", count)[-1]
        _, correlation_id = last.headers[-1]  # a route may have a name of its own for it; it is always the last
        headers = [(":status", "200"), (self.header, correlation_id)]
        self.kafka.produce(f"replies{self.suffix}", "done", headers=headers)


async def _ask_and_reply(client: httpx.AsyncClient, ask: Ask, replying: _Replying, count: int) -> int:
    """Send a request, and have its record replied to where the client waits for that; return the status."""
    asking = asyncio.ensure_future(_ask(client, ask))
    if ask.status == 200:
        await asyncio.to_thread(replying.reply, count)
    return (await asking).status_code


def _check_record(wanted: Any, record: Consumed, suffix: str) -> None:
    assert wanted["topic"] == "items"
    assert (record.key, record.value) == (wanted["key"], wanted["value"])
    headers = {name: (value or "").removesuffix(suffix) for name, value in record.headers}
    if not wanted["headers"]:
        assert headers == {}
    for name, value in wanted["headers"].items():
        assert headers.get(name, "absent") == value, json.dumps(headers)


def test_each_file_of_the_corpus_has_its_expectation() -> None:
    files = {path.name.removesuffix(".yaml") for path in FOLDER.glob("*.yaml") if not path.name.endswith(".expected.yaml")}
    assert files == {case.name for case in CASES}
