"""The fast path: further requests of a method and path are served with less work and the same responses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from kafkaproxy.metrics import RESPONSES
from kafkaproxy.routing.table import AccessControl, Route
from kafkaproxy.worker.types import Acks
from tests.conformance.conftest import StartProxy
from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.support.exchange import Exchange
from tests.support.proxy import Proxy, configuration, gateway, produce

Consume = Callable[[str], list[Consumed]]
Piece = tuple[bytes, bool]
JSON = {"content-type": "application/json"}
BODY = b'{"greeting":"Hello, world"}'


def routes(topic: str) -> list[Route]:
    return [
        produce("/items/{id}", topic=topic, key="${params.id}", overrides={"zilla:of": "item ${params.id}"}),
        produce("/typed", topic=topic, overrides={"Content-Type": "application/x-ours"}),
        produce("/bare", topic=topic),
        produce("/missing", topic="there-is-no-such-topic"),
        produce("/keyed", topic=topic, key="${idempotencyKey}"),
        produce("/small", topic=topic, acks=Acks.LEADER_ONLY),
    ]


def fast_paths(proxy: Proxy) -> set[str]:
    table = proxy.runtime.table
    assert table is not None
    return {path.decode() for (_, path), handler in table.prepared._handlers.items() if handler.fast_path is not None}


async def ask(proxy: Proxy, method: str, path: str, fields: Mapping[str, str], *pieces: Piece) -> Exchange:
    asked = Exchange(proxy.app, method, path, fields)
    for body, more in pieces:
        asked.send(body, more=more)
    await asked.end()
    return asked


CASES: dict[str, tuple[str, str, dict[str, str], list[Piece], int]] = {
    "a body": ("POST", "/bare", JSON, [(BODY, False)], 204),
    "no content type": ("POST", "/bare", {}, [(BODY, False)], 204),
    "no body": ("POST", "/bare", {"content-length": "0"}, [(b"", False)], 204),
    "key and override of the path": ("PUT", "/items/a%20b", JSON, [(BODY, False)], 204),
    "an override of the type": ("PUT", "/typed", JSON, [(BODY, False)], 204),
    "a tombstone": ("DELETE", "/items/1", {}, [(b"ignored", False)], 204),
    "pieces": ("POST", "/bare", {}, [(b"one ", True), (b"two", True), (b"", False)], 204),
    "all there, the end not told": ("POST", "/bare", {"content-length": "27"}, [(BODY, True), (b"", False)], 204),
    "less there than declared": ("POST", "/bare", {"content-length": "28"}, [(BODY, True), (b"!", False)], 204),
    "chunked": ("POST", "/bare", {"transfer-encoding": "chunked"}, [(BODY, True), (b"!", False)], 204),
    "an idempotency key": ("POST", "/bare", {"idempotency-key": "k"}, [(BODY, False)], 204),
    "a key that is too long": ("POST", "/bare", {"idempotency-key": "k" * 300}, [(BODY, False)], 400),
    "a record of its own key": ("POST", "/keyed", {}, [(BODY, False)], 204),
    "too much": ("POST", "/bare", {}, [(b"x" * 2000, False)], 413),
    "too much declared": ("POST", "/bare", {"content-length": "2000"}, [(b"x", True)], 413),
    "too much in pieces": ("POST", "/bare", {}, [(b"x" * 600, True), (b"x" * 600, False)], 413),
    "no such topic": ("POST", "/missing", JSON, [(BODY, False)], 503),
    "an origin": ("POST", "/bare", {"origin": "https://a.example"}, [(BODY, False)], 204),
    "a foreign origin": ("POST", "/bare", {"origin": "https://b.example"}, [(BODY, False)], 403),
}
WITHOUT = {"a record of its own key"}
"""What has no fast path."""


@pytest.mark.parametrize(
    ("case", "cors"),
    [
        *((case, False) for case in CASES),
        *((case, True) for case in ("a body", "no such topic", "an origin", "a foreign origin")),
    ],
)
async def test_the_first_and_the_third_request_of_a_path_get_the_same_response(
    case: str, cors: bool, start: StartProxy, topic: TopicFactory, kcat_consume: Consume, settings: Any
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "MAX_BODY_BYTES": 1000}
    method, path, fields, pieces, status = CASES[case]
    if not cors and status == 403:
        status = 204
    commands = topic(name="commands")
    control = AccessControl(policy="cross-origin", allow_origins=frozenset({"https://a.example"}))
    proxy = start(*routes(commands), access_control=control if cors else None)
    answers = [await ask(proxy, method, path, fields, *pieces) for _ in range(4)]
    assert (path in fast_paths(proxy)) == (case not in WITHOUT)
    assert [each.status for each in answers] == [status] * 4
    assert [(each.fields, each.body) for each in answers[1:]] == [(answers[0].fields, answers[0].body)] * 3
    records = kcat_consume(commands)
    assert len(records) == (4 if status == 204 else 0)
    keys = {each.key for each in records}
    assert len(keys) == (4 if case == "a record of its own key" else min(len(records), 1))
    assert len({(each.value, *each.headers) for each in records}) == min(len(records), 1)


async def test_the_fast_path_counts_responses(start: StartProxy, topic: TopicFactory) -> None:
    proxy = start(
        produce("/bare", topic=topic(name="commands"), name="counted"), produce("/missing", topic="nowhere", name="lost")
    )
    for _ in range(5):
        await ask(proxy, "POST", "/bare", {}, (b"x", False))
        await ask(proxy, "POST", "/missing", {}, (b"x", False))
    assert RESPONSES.cell("gateway", "counted", "produce", "2xx").value == 5
    assert RESPONSES.cell("gateway", "lost", "produce", "5xx").value == 5


async def test_a_change_of_the_configuration_changes_the_fast_paths(
    start: StartProxy, kafka: Cluster, topic: TopicFactory, kcat_consume: Consume
) -> None:
    here, there = topic(name="here"), topic(name="there")
    proxy = start(produce("/bare", topic=here))
    for _ in range(3):
        await ask(proxy, "POST", "/bare", {}, (b"x", False))
    proxy.runtime.configure(replace(configuration(kafka.bootstrap, gateway(produce("/bare", topic=there))), version=2))
    for _ in range(3):
        await ask(proxy, "POST", "/bare", {}, (b"x", False))
    assert (len(kcat_consume(here)), len(kcat_consume(there))) == (3, 3)


async def test_a_client_that_leaves_in_the_middle_of_its_body_produces_nothing(
    start: StartProxy, topic: TopicFactory, kcat_consume: Consume
) -> None:
    commands = topic(name="commands")
    proxy = start(produce("/bare", topic=commands))
    for _ in range(3):
        asked = Exchange(proxy.app, "POST", "/bare", {"content-length": "10"})
        asked.send(b"half", more=True)
        asked.hang_up()
        await asked.end()
        gone = Exchange(proxy.app, "POST", "/bare", {"content-length": "10"})
        gone.hang_up()
        await gone.end()
        assert (asked.messages, gone.messages) == ([], [])
    assert kcat_consume(commands) == []


async def test_what_fails_is_logged_once(
    start: StartProxy, topic: TopicFactory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = start(produce("/bare", topic=topic(name="commands")))
    for _ in range(2):
        await ask(proxy, "POST", "/bare", {}, (b"x", False))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("of the test")

    monkeypatch.setattr("kafkaproxy.worker.cluster.ClusterWorker.send", fail)
    with caplog.at_level(logging.ERROR):
        answer = await ask(proxy, "POST", "/bare", {}, (b"x", False))
    assert answer.status == 500
    assert b"of the test" not in answer.body
    assert len([each for each in caplog.records if each.name == "kafkaproxy.http"]) == 1
