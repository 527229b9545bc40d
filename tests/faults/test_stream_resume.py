"""Streams that are resumed: from any instance, and over everything that can happen to a topic meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from kafkaproxy.core import progress
from kafkaproxy.core.eventids import parse_event_id
from kafkaproxy.routing.table import Configuration
from kafkaproxy.worker.kafka import history_reader as history_module
from kafkaproxy.worker.types import Role, TopicSettings
from tests.conftest import TopicFactory
from tests.faults.asking import unique
from tests.faults.conftest import StartProxy
from tests.kafka import Broker, Cluster
from tests.support.proxy import Proxy, configuration, gateway, stream
from tests.support.streams import EventStream, asgi_stream
from tests.support.watchdog import read_to_end


def streams(kafka: Cluster, topic: str, store_bytes: int | None = None) -> Configuration:
    routes = gateway(
        stream("/s", topic=topic),
        stream("/keyed", topic=topic, event_id_key=True, name="keyed"),
        stream("/latest", topic=topic, start="latest", name="latest"),
        stream("/of/{key}", topic=topic, filters=[{"key": "${params.key}"}], name="of"),
        stream("/any/{topic}", topic="${params.topic}", name="any"),
    )
    settings = {topic: TopicSettings(roles=frozenset({Role.STREAM}), store_bytes=store_bytes)}
    return configuration(kafka.bootstrap, routes, topics=settings)


def opened(proxy: Proxy, path: str = "/s", last: str | None = None) -> AbstractAsyncContextManager[EventStream]:
    return asgi_stream(proxy.app, path, {} if last is None else {"last-event-id": last})


def values(count: int, begin: int = 0) -> list[dict[str, Any]]:
    return [{"value": str(number)} for number in range(begin, begin + count)]


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 40
    while not (outcome if isinstance(outcome := condition(), bool) else await outcome):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def collect(s: EventStream, count: int) -> list[int]:
    return [int(event.data) for event in await s.take(count)]


@pytest.mark.parametrize("path", ["/s", "/keyed"])
async def test_a_stream_goes_on_at_another_instance(kafka: Cluster, topic: TopicFactory, start: StartProxy, path: str) -> None:
    name = topic(partitions=3)
    kafka.produce_many(name, values(300))
    instances = [start(streams(kafka, name), "one"), start(streams(kafka, name), "two")]
    seen: list[int] = []
    last = None
    for number in range(10):
        async with opened(instances[number % 2], path, last) as s:
            seen += await collect(s, 37)
            kafka.produce_many(name, values(10, 300 + 10 * number))
            last = s.last_event_id
    async with opened(instances[0], path, last) as s:
        seen += [int(event.data) for event in await read_to_end(s, kafka, name)]
        assert await s.is_quiet()
    assert len(seen) == 400
    assert set(seen) == set(range(400))


async def test_a_topic_grows_while_it_is_streamed_and_between_connections(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, settings: Any
) -> None:
    name = topic(partitions=1)
    kafka.produce(name, "0", partition=0)
    quick = start(streams(kafka, name), "quick")
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "METADATA_SECONDS": 600, "RETENTION_SECONDS": 600}
    slow = start(streams(kafka, name), "slow")  # it would not learn of new partitions in the time of this test
    async with opened(slow) as s:
        assert await collect(s, 1) == [0]
    async with opened(quick) as s:
        assert await collect(s, 1) == [0]
        kafka.add_partitions(name, 3)
        kafka.produce(name, "1", partition=1)
        kafka.produce(name, "2", partition=2)
        assert set(await collect(s, 2)) == {1, 2}
        last = s.last_event_id
        assert parse_event_id(last) == {0: 1, 1: 1, 2: 1}
    async with opened(slow, last=last) as s:
        kafka.produce(name, "3", partition=2)
        assert await collect(s, 1) == [3]
        assert await s.is_quiet()
        assert b"event:gap" not in s.body


async def test_an_id_from_before_the_topic_grew_gets_all_of_the_new_partitions(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(partitions=1)
    proxy = start(streams(kafka, name))
    kafka.produce(name, "0", partition=0)
    async with opened(proxy, "/latest") as s:
        await s.more()
        last = s.last_event_id
    kafka.add_partitions(name, 2)
    kafka.produce(name, "1", partition=1)
    async with opened(proxy, "/latest", last) as s:
        assert await collect(s, 1) == [1]


async def test_what_retention_ate_is_told(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic(partitions=2)
    kafka.produce_many(name, values(10), partition=0)
    kafka.produce_many(name, values(10, 10), partition=1)
    proxy = start(streams(kafka, name))
    kafka.delete_records(name, {0: 6})
    async with opened(proxy, last=progress.encode({0: 2, 1: 8})) as s:
        gap = await s.next()
        assert (gap.type, json.loads(gap.data)) == ("gap", {"lost": [{"partition": 0, "from": 2, "to": 6}]})
        assert parse_event_id(gap.id) == {0: 6, 1: 8}  # a stream that ends here gets it no more
        assert {int(event.data) for event in await read_to_end(s, kafka, name)} == {6, 7, 8, 9, 18, 19}
        assert await s.is_quiet()
    async with opened(proxy, last=gap.id) as s:
        assert set(await collect(s, 6)) == {6, 7, 8, 9, 18, 19}
        assert b"gap" not in s.body
    async with opened(proxy) as s:  # a new stream loses nothing
        assert set(await collect(s, 14)) == {6, 7, 8, 9, *range(10, 20)}
        assert b"gap" not in s.body


async def test_retention_passes_a_stream_that_lags(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic()
    kafka.produce_many(name, [{"value": f"{number:6}" + "x" * 10_000} for number in range(1000)])
    proxy = start(streams(kafka, name))
    async with asgi_stream(proxy.app, "/s", unread=2) as s:
        first = await s.next()
        kafka.delete_records(name, {0: 900})
        cluster = proxy.runtime.worker.cluster("default")
        await until(lambda: cluster.store.progress(cluster.topics()[name].key)[0].log_start == 900)
        events = [first, *await s.take(1)]
        while events[-1].type != "gap":
            events += await s.take(1)
        (lost,) = json.loads(events[-1].data)["lost"]
        before = [int(event.data[:6]) for event in events[:-1]]
        assert before == list(range(len(before)))
        assert lost == {"partition": 0, "from": len(before), "to": 900}
        assert [int(event.data[:6]) for event in await s.take(100)] == list(range(900, 1000))


async def test_an_id_beyond_the_end_of_the_log_is_a_gap(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic(partitions=2)
    kafka.produce_many(name, values(3), partition=0)
    proxy = start(streams(kafka, name))
    async with opened(proxy, last=progress.encode({0: 1, 1: 5, 7: 3})) as s:
        gap = await s.next()
        assert json.loads(gap.data) == {"lost": [{"partition": 1, "from": 5, "to": 0}, {"partition": 7, "from": 3, "to": 0}]}
        assert await collect(s, 2) == [1, 2]


@pytest.mark.parametrize("pause", [False, True])
async def test_a_topic_is_created_again_while_it_is_streamed(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, pause: bool
) -> None:
    name = topic(partitions=2)
    kafka.produce_many(name, values(5), partition=0)
    proxy = start(streams(kafka, name))
    async with opened(proxy) as everything, opened(proxy, "/of/k") as filtered:
        assert await collect(everything, 5) == [0, 1, 2, 3, 4]
        kafka.delete_topics([name])
        if pause:
            cluster = proxy.runtime.worker.cluster("default")
            await until(lambda: bool(cluster.topics()[name].error))
        kafka.create_topic(name, 1)
        kafka.produce_many(name, [{"value": str(number), "key": "k"} for number in range(100, 108)])
        for s in (everything, filtered):
            gap = await s.next()
            while gap.type != "gap":  # Kafka works by names: what was read before the change was known looks like the old one's
                assert not pause
                gap = await s.next()
            assert json.loads(gap.data)["lost"][0]["to"] == 0
            assert parse_event_id(gap.id) == {0: 0}
            assert await collect(s, 8) == list(range(100, 108))
            assert await s.is_quiet()


async def test_a_topic_is_created_again_between_connections(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic()
    kafka.produce_many(name, values(5))
    proxy = start(streams(kafka, name))
    async with opened(proxy) as s:
        await s.take(5)
        last = s.last_event_id
    kafka.delete_topics([name])
    kafka.create_topic(name)
    kafka.produce_many(name, values(2, 100))

    async def shows_a_gap() -> bool:
        async with opened(proxy, last=last) as s:
            if s.status != 200:
                return False  # the proxy has seen the topic vanish, and not yet return
            event = await s.next()
            assert json.loads(event.data) == {"lost": [{"partition": 0, "from": 5, "to": 0}]}
            assert await collect(s, 2) == [100, 101]
            return True

    await until(shows_a_gap)


async def test_what_the_store_let_go_of_comes_from_kafka(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic(partitions=2)
    kafka.produce_many(
        name, [{"value": f"{number:5}" + "x" * 500, "key": f"k{number % 3}", "partition": number % 2} for number in range(6000)]
    )
    proxy = start(streams(kafka, name, store_bytes=400_000))
    cluster = proxy.runtime.worker.cluster("default")
    async with opened(proxy) as s:
        await s.next()
    key = cluster.topics()[name].key
    await until(lambda: min(each.complete_from for each in cluster.store.progress(key).values()) > 1500)
    async with opened(proxy) as s, opened(proxy) as same, opened(proxy, "/of/k1") as filtered:
        kafka.produce_many(name, [{"value": f"{number:5}", "key": f"k{number % 3}"} for number in range(6000, 6100)])
        for each in (s, same):
            events = await read_to_end(each, kafka, name)
            assert sorted(int(event.data[:5]) for event in events) == list(range(6100))
        assert sorted(int(event.data[:5]) for event in await filtered.take(2033)) == list(range(1, 6100, 3))
        assert await s.is_quiet()
    async with opened(proxy, last=events[1000].id) as s:  # how the partitions take turns is another matter
        rest = await read_to_end(s, kafka, name)
        assert sorted(event.data for event in rest) == sorted(event.data for event in events[1001:])
    for partition in range(2):
        own = [number for number in (int(event.data[:5]) for event in rest) if number < 6000 and number % 2 == partition]
        assert own == sorted(own)


async def test_kafka_deleted_what_the_store_does_not_know_of_yet(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, settings: Any
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "METADATA_SECONDS": 600, "RETENTION_SECONDS": 600}
    name = topic()
    kafka.produce_many(name, [{"value": f"{number:5}" + "x" * 1000} for number in range(3000)])
    proxy = start(streams(kafka, name, store_bytes=100_000))
    cluster = proxy.runtime.worker.cluster("default")
    async with opened(proxy, "/latest") as s:
        await s.more()
        await until(lambda: cluster.store.progress(cluster.topics()[name].key)[0].complete_from > 2000)
    async with asgi_stream(proxy.app, "/s", unread=1) as s:
        first = await s.next()
        await asyncio.to_thread(kafka.delete_records, name, {0: 2950})
        events = [first]
        while events[-1].type != "gap":
            events += await s.take(1)
        (lost,) = json.loads(events[-1].data)["lost"]
        assert lost == {"partition": 0, "from": len(events) - 1, "to": 2950}
        assert [int(event.data[:5]) for event in await s.take(50)] == list(range(2950, 3000))


async def test_a_broker_that_goes_away_and_comes_back_is_a_pause(broken_kafka: Broker, start: StartProxy) -> None:
    name = broken_kafka.create_topic(unique("stream-pause"), 2)
    broken_kafka.produce_many(name, values(20))
    proxy = start(streams(broken_kafka, name))
    async with opened(proxy) as open_all_the_time:
        seen = await collect(open_all_the_time, 20)
        last = open_all_the_time.last_event_id
        await asyncio.to_thread(broken_kafka.stop)
        async with opened(proxy, last=last) as resumed:  # the store knows all that this client has seen
            assert resumed.status == 200
            await asyncio.to_thread(broken_kafka.start)
            broken_kafka.produce_many(name, values(20, 20))
            events = await read_to_end(resumed, broken_kafka, name)
            assert {int(event.data) for event in events} == set(range(20, 40))
        assert set(seen + await collect(open_all_the_time, 20)) == set(range(40))
        assert await open_all_the_time.is_quiet()


async def test_a_catch_up_that_kafka_breaks_off_ends_the_stream_and_loses_nothing(
    broken_kafka: Broker, start: StartProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history_module, "_PATIENCE", 1.0)
    name = broken_kafka.create_topic(unique("stream-broken-off"))
    broken_kafka.produce_many(name, [{"value": f"{number:5}" + "x" * 1000} for number in range(6000)])
    proxy = start(streams(broken_kafka, name, store_bytes=0))
    cluster = proxy.runtime.worker.cluster("default")
    state = await cluster.ready(name, Role.STREAM, 30)
    await until(lambda: cluster.store.progress(state.key)[0].complete_from == 6000)
    async with asgi_stream(proxy.app, "/s", unread=1) as s:
        events = await s.take(1)
        broken_kafka.pause()
        events += await s.rest()  # whole events, and then an end: the sign for a client to come back
        last = s.last_event_id
    broken_kafka.resume()
    assert "stream_interrupted" in caplog.text
    assert 0 < len(events) < 6000
    async with opened(proxy, last=last) as s:
        events += await read_to_end(s, broken_kafka, name)
        assert [int(event.data[:5]) for event in events] == list(range(6000))
        assert b"event:gap" not in s.body


async def test_a_position_that_nobody_can_vouch_for_is_503_while_kafka_is_away(broken_kafka: Broker, start: StartProxy) -> None:
    name = broken_kafka.create_topic(unique("stream-away"))
    broken_kafka.produce_many(name, values(5))
    proxy = start(streams(broken_kafka, name))
    async with opened(proxy) as s:
        await s.take(5)
    await asyncio.to_thread(broken_kafka.stop)
    async with opened(proxy, last=progress.encode({0: 6})) as s:  # another instance may have seen one more
        assert s.status == 503
    async with opened(proxy, "/any/never-heard-of") as s:
        assert s.status == 503


async def test_a_topic_that_only_its_stream_asked_for_is_followed_for_as_long(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, settings: Any
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "TOPIC_IDLE_SECONDS": 4, "HEARTBEAT_SECONDS": 0.2}
    name = topic()
    proxy = start(streams(kafka, topic(name="other")))
    async with opened(proxy) as s:  # the stream is there, so that the topic is not idle before it was read
        assert s.status == 200
    cluster = proxy.runtime.worker.cluster("default")
    async with opened(proxy, f"/any/{name}") as s:
        begun = time.time()
        # The stream has been open for longer than an idle topic is followed, and notes that it uses it.
        await until(lambda: cluster.store.interest()[name]["used"] > begun + 4)
        kafka.produce(name, "1")
        assert await collect(s, 1) == [1]
    await until(lambda: name not in cluster.topics())
    async with opened(proxy, f"/any/{name}") as s:
        assert await collect(s, 1) == [1]


async def test_a_stream_ends_with_the_last_route_to_its_topic(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic()
    proxy = start(streams(kafka, name))
    async with opened(proxy) as s:
        await s.more()
        proxy.runtime.configure(streams(kafka, topic(name="another")))
        assert await s.rest() == []


async def test_streams_end_with_their_cluster(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic()
    kafka.produce(name, "1")
    proxy = start(streams(kafka, name))
    async with opened(proxy) as s:
        await s.next()
        last = s.last_event_id
        changed = configuration(kafka.bootstrap, gateway(stream("/s", topic=name)), **{"client.id": "another"})
        proxy.runtime.configure(changed)
        assert await s.rest() == []
    kafka.produce(name, "2")
    async with opened(proxy, last=last) as s:
        assert await collect(s, 1) == [2]
