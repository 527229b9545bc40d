"""A stream while its topic is read anew under it: because a route wants more of it, or because its log was cut short."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kafkaproxy.routing.table import Configuration
from kafkaproxy.worker.writing import StoreWriter
from tests.conftest import TopicFactory
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster
from tests.proxy import configuration, fetch, gateway, stream
from tests.streams import asgi_stream

COUNT = 3000


@pytest.fixture(autouse=True)
def _no_heartbeat(settings: Any) -> None:
    """A stream that went on with its next heartbeat only would take too long for these tests."""
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "HEARTBEAT_SECONDS": 600, "READY_TIMEOUT_SECONDS": 30}


class Held:
    """A writer that does not get on with what it reads anew until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._go_on = threading.Event()
        self._go_on.set()
        self.begun = threading.Event()
        start, apply = StoreWriter.start, StoreWriter.apply
        monkeypatch.setattr(StoreWriter, "start", lambda *args: (start(*args), self.begun.set()))
        monkeypatch.setattr(StoreWriter, "apply", lambda *args: (self._go_on.wait(60), apply(*args)))

    def hold(self) -> None:
        self._go_on.clear()
        self.begun.clear()

    def let_go(self) -> None:
        self._go_on.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(monkeypatch)
    yield made
    made.let_go()


def routes(kafka: Cluster, topic: str) -> Configuration:
    items = fetch("GET /items/{topic}", topic="${params.topic}", merge=True)
    return configuration(
        kafka.bootstrap, gateway(stream("/s", topic=topic), stream("/latest", topic=topic, start="latest"), items)
    )


def numbered(count: int, begin: int = 0) -> list[dict[str, Any]]:
    return [{"value": f"{number:6}" + "x" * 1000, "partition": number % 2} for number in range(begin, begin + count)]


async def test_a_stream_that_lags_misses_nothing_of_a_topic_that_is_read_anew(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, held: Held
) -> None:
    name = topic(partitions=2)
    kafka.produce_many(name, numbered(COUNT))
    proxy = start(routes(kafka, name))
    async with asgi_stream(proxy.app, "/s", unread=2) as lags, asgi_stream(proxy.app, "/latest") as live:
        await live.more()
        behind = await lags.take(1)
        held.hold()
        first_fetch = asyncio.ensure_future(proxy.request("GET", f"/items/{name}"))  # it wants all that the topic holds
        await asyncio.to_thread(held.begun.wait, 30)
        while not await lags.is_quiet():  # as far as it gets with what the store still, or again, has
            behind += lags.arrived()
        assert len(behind) < COUNT
        held.let_go()
        behind += await lags.take(COUNT - len(behind))
        assert (await first_fetch).status_code == 200
        kafka.produce_many(name, numbered(2, COUNT))
        behind += await lags.take(2)
        for partition in (0, 1):
            mine = [number for event in behind if (number := int(event.data[:6])) % 2 == partition]
            assert mine == list(range(partition, COUNT + 2, 2))
        assert {int(event.data[:6]) for event in await live.take(2)} == {COUNT, COUNT + 1}
        for s in (lags, live):
            assert await s.is_quiet()
            assert b"event:gap" not in s.body
