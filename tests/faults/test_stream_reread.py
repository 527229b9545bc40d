"""A stream while its topic is read anew under it: because it is compacted no longer, or because its log was cut short."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kafkaproxy.core import progress
from kafkaproxy.core.eventids import parse_event_id
from kafkaproxy.routing.table import Configuration
from kafkaproxy.worker.ingest.metadata_poller import MetadataPoller
from kafkaproxy.worker.store.writer import StoreWriter
from kafkaproxy.worker.types import Role, TopicSettings
from tests.conftest import TopicFactory
from tests.faults.asking import unique
from tests.faults.conftest import StartProxy
from tests.kafka import Broker, Cluster
from tests.support.exchange import until
from tests.support.proxy import configuration, gateway, stream
from tests.support.streams import asgi_stream
from tests.support.watchdog import read_to_end

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

        def begin(*args: Any) -> None:
            start(*args)
            self.begun.set()

        monkeypatch.setattr(StoreWriter, "start", begin)
        monkeypatch.setattr(StoreWriter, "apply", lambda *args: (self._go_on.wait(60), apply(*args)))

    def hold(self) -> None:
        self._go_on.clear()
        self.begun.clear()

    def trim(self) -> None:
        self._go_on.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(monkeypatch)
    yield made
    made.trim()


def routes(kafka: Cluster, topic: str, policy: str | None = None) -> Configuration:
    topics = {topic: TopicSettings(roles=frozenset({Role.STREAM}), cleanup_policy=policy)}
    streams = gateway(stream("/s", topic=topic), stream("/latest", topic=topic, start="latest"))
    return configuration(kafka.bootstrap, streams, topics=topics)


def numbered(count: int, begin: int = 0) -> list[dict[str, Any]]:
    return [{"value": f"{number:6}" + "x" * 1000, "partition": number % 2} for number in range(begin, begin + count)]


async def test_a_stream_that_lags_misses_nothing_of_a_topic_that_is_read_anew(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, held: Held
) -> None:
    name = topic(partitions=2)
    kafka.produce_many(name, numbered(COUNT))
    proxy = start(routes(kafka, name, "compact"))
    async with asgi_stream(proxy.app, "/s", unread=2) as lags, asgi_stream(proxy.app, "/latest") as live:
        await live.more()
        behind = await lags.take(1)
        held.hold()
        proxy.runtime.configure(routes(kafka, name, "delete"))
        await asyncio.to_thread(held.begun.wait, 30)
        while not await lags.is_quiet():  # as far as it gets with what the store still, or again, has
            behind += lags.arrived()
        assert len(behind) < COUNT
        held.trim()
        behind += await read_to_end(lags, kafka, name)
        kafka.produce_many(name, numbered(2, COUNT))
        behind += await read_to_end(lags, kafka, name)
        for partition in (0, 1):
            mine = [number for event in behind if (number := int(event.data[:6])) % 2 == partition]
            assert mine == list(range(partition, COUNT + 2, 2))
        assert {int(event.data[:6]) for event in await live.take(2)} == {COUNT, COUNT + 1}
        for s in (lags, live):
            assert await s.is_quiet()
            assert b"event:gap" not in s.body


def cut_short(broker: Broker, topic: str, records: int) -> None:
    """Take all but the first records off the only partition's log, each a batch of its own, of a broker that does not run."""
    folder = broker.folder / "data" / f"{topic}-0"
    log = folder / f"{0:020}.log"
    data = log.read_bytes()
    at = 0
    for _ in range(records):
        at += 12 + int.from_bytes(data[at + 8 : at + 12])
    assert 0 < at < len(data)
    log.write_bytes(data[:at])
    for index in (*folder.glob("*.index"), *folder.glob("*.timeindex")):
        index.unlink()


async def test_a_log_that_was_cut_short_and_has_grown_again_is_another_log(
    broken_kafka: Broker, start: StartProxy, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "METADATA_SECONDS": 600, "RETENTION_SECONDS": 600}
    name = broken_kafka.create_topic(unique("cut-short"))
    for number in range(30):
        broken_kafka.produce(name, str(number))
    proxy = start(configuration(broken_kafka.bootstrap, gateway(stream("/s", topic=name))))
    async with asgi_stream(proxy.app, "/s") as s:
        await s.take(30)
        ingest = proxy.runtime.worker.cluster("default").ingest
        assert ingest is not None
        with monkeypatch.context() as not_yet:
            not_yet.setattr(MetadataPoller, "poll_now", lambda _: None)
            await asyncio.to_thread(broken_kafka.kill)
            cut_short(broken_kafka, name, 20)
            await asyncio.to_thread(broken_kafka.start)
            await until(lambda: ingest._reading.assignment._out_of_range)
            await asyncio.to_thread(broken_kafka.produce_many, name, [{"value": str(number)} for number in range(100, 120)])
        ingest.poll_metadata()
        gap = await s.next()
        assert (gap.type, json.loads(gap.data)) == ("gap", {"lost": [{"partition": 0, "from": 30, "to": 0}]})
        assert parse_event_id(gap.id) == {0: 0}
        assert [int(event.data) for event in await s.take(40)] == [*range(20), *range(100, 120)]
        assert await s.is_quiet()


async def test_a_process_that_does_not_write_has_the_writer_look_for_what_it_does_not_know(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, settings: Any
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "METADATA_SECONDS": 600, "RETENTION_SECONDS": 600}
    name = topic()
    kafka.produce(name, "0", partition=0)
    writer, other = start(routes(kafka, name)), start(routes(kafka, name))  # they share a store
    for proxy in (writer, other):
        async with asgi_stream(proxy.app, "/s") as s:
            assert (await s.next()).data == "0"
    kafka.add_partitions(name, 2)
    kafka.produce(name, "1", partition=1)
    async with asgi_stream(other.app, "/s", {"last-event-id": progress.encode({0: 1, 1: 0})}) as s:
        assert s.status == 200
        assert (await s.next()).data == "1"
        assert b"event:gap" not in s.body
