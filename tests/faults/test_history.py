"""Streams that wait for what only Kafka has: it is away, or its readers are busy with others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from kafkaproxy.streaming.connection import StreamConnection
from kafkaproxy.worker.kafka.history_reader import _READERS, HistoryReader
from kafkaproxy.worker.types import Role, TopicSettings
from tests.conftest import TopicFactory
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster
from tests.support.exchange import until
from tests.support.proxy import Proxy, configuration, gateway, stream
from tests.support.streams import asgi_stream


class Gate:
    """Stands between streams and the readers of Kafka, closed."""

    def __init__(self, history: HistoryReader) -> None:
        self.asked = 0
        self._open = threading.Event()
        self._read = history._read
        history._read = self.read  # type: ignore[assignment, method-assign]

    def read(self, *where: Any) -> Any:
        self.asked += 1
        assert self._open.wait(60)
        return self._read(*where)

    def open(self) -> None:
        """Let all through, also those that wait."""
        self._open.set()


Begin = Callable[..., Awaitable[tuple[Proxy, Gate]]]


@pytest.fixture
async def begin(kafka: Cluster, topic: TopicFactory, start: StartProxy, settings: Any) -> AsyncIterator[Begin]:
    """Start a proxy whose store has let go of most of a topic of 1,000 records."""
    name = topic()
    kafka.produce_many(name, [{"value": f"{number:5}" + "x" * 1000, "key": f"k{number % 20}"} for number in range(1000)])
    gates: list[Gate] = []

    async def begin(**changed: Any) -> tuple[Proxy, Gate]:
        settings.KAFKAPROXY = {**settings.KAFKAPROXY, **changed}
        routes = [stream("/s", topic=name), stream("/of/{key}", topic=name, filters=[{"key": "${params.key}"}], name="of")]
        topics = {name: TopicSettings(roles=frozenset({Role.STREAM}), store_bytes=100_000)}
        proxy = start(configuration(kafka.bootstrap, gateway(*routes), topics=topics))
        cluster = proxy.runtime.worker.cluster("default")
        gates.append(Gate(cluster.history))
        state = await cluster.ready(name, Role.STREAM, 30)
        await until(lambda: cluster.store.progress(state.key)[0].complete_from > 500)
        return proxy, gates[-1]

    yield begin
    for gate in gates:
        gate.open()


async def test_a_stream_that_waits_for_kafka_is_not_silent(begin: Begin) -> None:
    proxy, gate = await begin(HEARTBEAT_SECONDS=0.1)
    async with asgi_stream(proxy.app, "/s") as s:
        while s.parser.comments < 4:
            await s.more()
        gate.open()
        assert [int(event.data[:5]) for event in await s.take(1000)] == list(range(1000))


async def test_who_leaves_while_it_waits_for_kafka_gives_up_its_place_and_its_turn(begin: Begin) -> None:
    proxy, gate = await begin(MAX_STREAMS=2 * _READERS)
    for _ in range(2):
        async with AsyncExitStack() as stack:
            for number in range(2 * _READERS):
                s = await stack.enter_async_context(asgi_stream(proxy.app, f"/of/k{number}"))
                assert s.status == 200
            await until(lambda: gate.asked == _READERS)
        assert len(proxy.runtime.streams) == proxy.runtime.streams._slots == 0
    gate.open()
    async with asgi_stream(proxy.app, "/of/k19") as s:
        assert (await s.next()).data[:5] == "   19"
    assert gate.asked == _READERS + 1  # except for reads that had begun, nothing is read for clients that left


async def test_who_leaves_does_not_take_a_read_from_others(begin: Begin) -> None:
    proxy, gate = await begin()
    async with asgi_stream(proxy.app, "/s") as staying:
        async with asgi_stream(proxy.app, "/s"):
            await until(lambda: gate.asked == 1)
        gate.open()
        assert (await staying.next()).data[:5] == "    0"


async def test_what_is_overdue_and_cannot_be_done_is_not_looked_at_all_the_time(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def counting(self: StreamConnection) -> None:
        nonlocal looks
        looks += 1
        tick(self)

    tick = StreamConnection._on_timer
    monkeypatch.setattr(StreamConnection, "_on_timer", counting)
    monkeypatch.setattr(StreamConnection, "_wake", lambda _self: None)  # it is at something else
    proxy, _ = await begin(HEARTBEAT_SECONDS=0.05)
    stack = AsyncExitStack()
    try:
        await stack.enter_async_context(asgi_stream(proxy.app, "/s"))
        await asyncio.sleep(1.2)
    finally:
        monkeypatch.undo()
        await stack.aclose()
    assert 1 <= looks < 10
