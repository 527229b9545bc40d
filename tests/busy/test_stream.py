"""Streams of topics that never come to rest: nothing is missing, nothing comes twice, and every key is in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from kafkaproxy.worker.types import Role, TopicSettings
from tests.busy.conftest import Begin, StartProxy
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, gateway, stream
from tests.support.streams import Event, EventStream, asgi_stream
from tests.support.traffic import Flow, Kind, Traffic
from tests.support.watchdog import read_to_end

KEYS = 50
RATES = [(20, 1), (1_000, 3), (20_000, 3), (1_000, 12)]


@pytest.fixture(autouse=True)
def _no_store_of_streams_is_too_slow(settings: Any) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "READY_TIMEOUT_SECONDS": 30}


def streams(kafka: Cluster, topic: str, store_bytes: int | None = None) -> Any:
    served = gateway(
        stream("/all", topic=topic, name="all"),
        stream("/latest", topic=topic, start="latest", name="latest"),
        stream("/of/{key}", topic=topic, filters=[{"key": "${params.key}"}], name="of"),
    )
    settings = {topic: TopicSettings(roles=frozenset({Role.STREAM}), store_bytes=store_bytes)}
    return configuration(kafka.bootstrap, served, topics=settings)


def numbers(events: Iterable[Event]) -> list[int]:
    """Return the numbers of the records among events."""
    records = [event for event in events if event.type != "position"]
    assert {event.type for event in records} <= {"message"}
    return [int(event.data) for event in records]


def assert_in_order(seen: list[int]) -> None:
    """Check the order of every key: a partition has all records of its keys."""
    last: dict[int, int] = {}
    for number in seen:
        assert last.get(number % KEYS, 0) < number
        last[number % KEYS] = number


async def read(s: EventStream, count: int) -> list[Event]:
    """Return at least ``count`` events."""
    events = s.arrived()
    while len(events) < count:
        assert await s.more(), f"the stream ended after {s.body[-200:]!r}"
        events += s.arrived()
    return events


async def resume(proxy: Proxy, events: list[Event], batch: int) -> None:
    """Go on from the last event in a stream of its own, for some events more."""
    async with asgi_stream(proxy.app, "/all", {"last-event-id": events[-1].id}) as s:
        assert s.status == 200
        events += await read(s, batch)


async def finish(proxy: Proxy, kafka: Cluster, traffic: Traffic, flow: Flow, events: list[Event]) -> list[int]:
    """Stop the traffic, go on from the last event to the end, and return the numbers of all records that came."""
    async with asgi_stream(proxy.app, "/all", {"last-event-id": events[-1].id}) as s:
        await asyncio.to_thread(traffic.stop)
        return numbers([*events, *await read_to_end(s, kafka, flow.topic)])


@pytest.mark.parametrize(("rate", "partitions"), RATES)
async def test_a_stream_from_the_earliest_record_misses_nothing_over_resumptions(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int, partitions: int
) -> None:
    flow = Flow(topic=topic(name="stream", partitions=partitions), rate=rate, keys=KEYS)
    traffic = begin(flow)
    proxy = start(streams(kafka, flow.topic))
    async with asgi_stream(proxy.app, "/all") as s:
        assert s.status == 200
        events = await read(s, rate // 4)
    for _ in range(4):
        await resume(proxy, events, rate // 8)
    seen = await finish(proxy, kafka, traffic, flow, events)
    assert_in_order(seen)
    assert sorted(seen) == list(range(1, traffic.acknowledged(flow) + 1))


@pytest.mark.parametrize(("rate", "partitions"), RATES)
async def test_a_stream_from_the_latest_record_goes_on_without_a_gap(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int, partitions: int
) -> None:
    flow = Flow(topic=topic(name="stream", partitions=partitions), rate=rate, keys=KEYS)
    traffic = begin(flow)
    proxy = start(streams(kafka, flow.topic))
    before = traffic.acknowledged(flow)
    async with asgi_stream(proxy.app, "/latest") as s:
        assert s.status == 200
        after = await asyncio.to_thread(traffic.sent_now, flow)
        while not s.parser.last_event_id:
            assert await s.more()
        begun = s.parser.last_event_id
        events = s.arrived()
    if not events:  # a client that was dropped at once goes on from where it began
        async with asgi_stream(proxy.app, "/all", {"last-event-id": begun}) as s:
            events += await read(s, rate // 4)
    for _ in range(2):
        await resume(proxy, events, rate // 8)
    seen = await finish(proxy, kafka, traffic, flow, events)
    assert_in_order(seen)
    assert len(set(seen)) == len(seen)
    assert min(seen) > before
    # All that was sent after the answer, and of each key all from its first record on.
    end = traffic.acknowledged(flow) + 1
    assert not set(range(after + 1, end)) - set(seen)
    for first in {number % KEYS: number for number in reversed(seen)}.values():
        assert [number for number in seen if number % KEYS == first % KEYS] == list(range(first, end, KEYS))


@pytest.mark.parametrize("rate", [20, 1_000])
async def test_a_stream_shows_what_was_committed_and_nothing_else(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int
) -> None:
    name = topic(name="transactions", partitions=3)
    committed = Flow(topic=name, rate=rate, kind=Kind.COMMITTED, keys=KEYS)
    traffic = begin(committed, Flow(topic=name, rate=rate, kind=Kind.ABORTED, keys=KEYS))
    proxy = start(streams(kafka, name))
    async with asgi_stream(proxy.app, "/all") as s:
        assert s.status == 200
        events = await read(s, rate // 4)
    await resume(proxy, events, rate // 4)
    async with asgi_stream(proxy.app, "/all", {"last-event-id": events[-1].id}) as s:
        await asyncio.to_thread(traffic.stop)
        total = traffic.acknowledged(committed)
        while len(seen := numbers(events)) < total:
            assert await s.more()
            events += s.arrived()
    assert_in_order(seen)
    assert sorted(seen) == list(range(1, total + 1))


@pytest.mark.parametrize("rate", [1_000, 5_000])
async def test_a_stream_that_begins_in_kafka_joins_the_store_without_a_gap(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int
) -> None:
    flow = Flow(topic=topic(name="history", partitions=3), rate=rate, keys=KEYS)
    traffic = begin(flow)
    traffic.wait_for(flow, 2 * rate)
    proxy = start(streams(kafka, flow.topic, store_bytes=50_000))
    async with asgi_stream(proxy.app, "/all") as s:
        assert s.status == 200
        events = await read(s, 3 * rate)
    await resume(proxy, events, rate)
    seen = await finish(proxy, kafka, traffic, flow, events)
    assert_in_order(seen)
    assert sorted(seen) == list(range(1, traffic.acknowledged(flow) + 1))


async def test_a_stream_of_one_key_has_all_of_it_amid_others(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin
) -> None:
    flow = Flow(topic=topic(name="filtered", partitions=3), rate=1_000, keys=KEYS)
    traffic = begin(flow)
    proxy = start(streams(kafka, flow.topic))
    async with asgi_stream(proxy.app, "/of/k7") as s, asgi_stream(proxy.app, "/of/rare") as rare:
        events = await s.take(20)
        await asyncio.to_thread(kafka.produce, flow.topic, "1", key="rare")
        assert (await rare.next()).data == "1"
    async with asgi_stream(proxy.app, "/of/k7", {"last-event-id": events[-1].id}) as s:
        await asyncio.to_thread(traffic.stop)
        wanted = list(range(7, traffic.acknowledged(flow) + 1, KEYS))
        events += await s.take(len(wanted) - len(events))
    assert numbers(events) == wanted
