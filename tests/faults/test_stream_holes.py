"""Offsets that no record has for a reader: aborted transactions, control records, and what compaction took away."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest
from confluent_kafka import Producer

from kafkaproxy.core import progress
from kafkaproxy.core.eventids import parse_event_id
from kafkaproxy.worker.types import Role, TopicSettings
from tests.conftest import TopicFactory
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster
from tests.support.exchange import until
from tests.support.proxy import Proxy, configuration, gateway, stream
from tests.support.streams import asgi_stream
from tests.support.watchdog import read_to_end

IN_KAFKA = 0
"""A budget that lets nothing stay in the store: every stream is read from Kafka itself."""


@pytest.fixture(autouse=True)
def _short_heartbeat(settings: Any) -> None:
    """An id may move past offsets without a record with a heartbeat only."""
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "HEARTBEAT_SECONDS": 0.2, "READY_TIMEOUT_SECONDS": 20}


class Transactions:
    """A producer of transactions."""

    def __init__(self, kafka: Cluster, topic: str) -> None:
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"holes-{uuid.uuid4()}"})
        self._producer.init_transactions(30)

    def begin(self, *values: str) -> None:
        """Begin one; Kafka has its records when this returns."""
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(self._topic, value)
        assert self._producer.flush(30) == 0

    def commit(self, *values: str) -> None:
        self.begin(*values)
        self._producer.commit_transaction(30)

    def abort(self, *values: str) -> None:
        self.begin(*values)
        self._producer.abort_transaction(30)

    def commit_open(self) -> None:
        self._producer.commit_transaction(30)


async def serve(kafka: Cluster, topic: str, start: StartProxy, store_bytes: int | None) -> Proxy:
    """Start a proxy that has read all of the topic, and holds no more of it than it may."""
    settings = {topic: TopicSettings(roles=frozenset({Role.STREAM}), store_bytes=store_bytes)}
    config = configuration(kafka.bootstrap, gateway(stream("/s", topic=topic)), topics=settings)
    proxy = start(config, f"store-{store_bytes}")
    cluster = proxy.runtime.worker.cluster("default")
    state = await cluster.ready(topic, Role.STREAM, 30)
    last = max(record.offset for record in kafka.consume(topic))
    wanted = last + 1 if store_bytes == IN_KAFKA else 0
    await until(lambda: cluster.store.progress(state.key)[0].complete_from >= wanted)
    return proxy


async def check_every_resume(kafka: Cluster, topic: str, proxy: Proxy) -> None:
    """Resume at every offset of the log, with or without a record, and compare with what Kafka shows a reader."""
    records = await asyncio.to_thread(kafka.consume, topic)
    (end,) = kafka.ends(topic).values()
    assert len(records) < end - 2  # there are holes

    async def check(offset: int) -> None:
        async with asgi_stream(proxy.app, "/s", {"last-event-id": progress.encode({0: offset})}) as s:
            values = [event.data for event in await read_to_end(s, kafka, topic)]
            assert values == [record.value for record in records if record.offset >= offset], offset
            assert parse_event_id(s.last_event_id) == {0: end}
            assert b"event:gap" not in s.body

    await asyncio.gather(*(check(offset) for offset in range(end + 1)))


async def test_a_live_stream_waits_for_an_open_transaction_and_passes_an_aborted_one(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic()
    writer = Transactions(kafka, name)
    kafka.produce(name, "plain")
    proxy = await serve(kafka, name, start, None)
    async with asgi_stream(proxy.app, "/s") as s:
        assert (await s.next()).data == "plain"
        writer.begin("one", "two")
        kafka.produce(name, "behind")
        assert await s.is_quiet()
        writer.commit_open()
        assert [event.data for event in await s.take(3)] == ["one", "two", "behind"]
        writer.abort("not this")
        assert await read_to_end(s, kafka, name) == []
        last = s.last_event_id
        assert parse_event_id(last) == {0: 7}  # four records, what was aborted, and two control records
    writer.abort("nor this")
    kafka.produce(name, "end")
    async with asgi_stream(proxy.app, "/s", {"last-event-id": last}) as s:
        assert [event.data for event in await read_to_end(s, kafka, name)] == ["end"]
        assert b"event:gap" not in s.body


@pytest.mark.parametrize("store_bytes", [None, IN_KAFKA], ids=["in the store", "in Kafka"])
async def test_a_stream_is_resumed_inside_of_transactions(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, store_bytes: int | None
) -> None:
    name = topic()
    writer = Transactions(kafka, name)
    writer.abort("first", "of all")
    kafka.produce_many(name, [{"value": f"plain {number}"} for number in range(3)])
    writer.commit("one", "two")
    writer.abort("three", "four")
    writer.commit("five")
    writer.abort("six", "seven")  # and its control record at the end
    proxy = await serve(kafka, name, start, store_bytes)
    await check_every_resume(kafka, name, proxy)


async def test_a_stream_is_resumed_where_compaction_left_a_hole(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    config = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    name = topic(config=config)
    kafka.produce_many(name, [{"value": str(number), "key": f"k{number % 2}"} for number in range(12)])
    deadline, others = time.monotonic() + 60, 0
    while len(await asyncio.to_thread(kafka.consume, name)) > others + 2:
        others += 1  # each turn begins a segment, which lets the cleaner at the one before
        kafka.produce(name, "other", key=f"other {others}")
        assert time.monotonic() < deadline, "the broker did not compact"
        await asyncio.sleep(0.3)
    for store_bytes in (None, IN_KAFKA):
        await check_every_resume(kafka, name, await serve(kafka, name, start, store_bytes))
