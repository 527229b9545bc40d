"""Clients of streams: many, slow, silent, too many, and what they are told when the server stops."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from kafkaproxy.core import progress
from kafkaproxy.core.eventids import parse_event_id
from kafkaproxy.streaming import broadcast
from kafkaproxy.streaming import tail as tail_module
from kafkaproxy.worker.filters import RecordFilter
from kafkaproxy.worker.store.reader import Store
from kafkaproxy.worker.types import Record
from tests.conftest import TopicFactory
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, gateway, stream
from tests.support.streams import asgi_stream
from tests.support.watchdog import read_to_end


@pytest.fixture
def name(topic: TopicFactory) -> str:
    return topic(partitions=2)


@pytest.fixture
def begin(kafka: Cluster, name: str, start: StartProxy, settings: Any) -> Callable[..., Proxy]:
    """Start a proxy with these settings."""

    def begin(**changed: Any) -> Proxy:
        settings.KAFKAPROXY = {**settings.KAFKAPROXY, **changed}
        routes = [
            stream("/s", topic=name),
            stream("/keyed", topic=name, event_id_key=True, name="keyed"),
            stream("/of/{key}", topic=name, filters=[{"key": "${params.key}"}], name="of"),
            stream("/kind/{kind}", topic=name, filters=[{"headers": {"kind": "${params.kind}"}}], name="kind"),
        ]
        return start(configuration(kafka.bootstrap, gateway(*routes)))

    return begin


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"value": str(number), "key": f"k{number % 5}", "partition": number % 2} for number in range(count)]


async def test_a_client_that_falls_out_of_the_ring_misses_nothing(
    begin: Callable[..., Proxy], kafka: Cluster, name: str
) -> None:
    proxy = begin()
    async with asgi_stream(proxy.app, "/s", unread=1) as slow, asgi_stream(proxy.app, "/s") as quick:
        await slow.more()
        await quick.more()
        await asyncio.to_thread(kafka.produce_many, name, numbered(10_000))  # the ring has room for about 2,000
        ahead = await quick.take(10_000)
        behind = await slow.take(10_000)
        assert await slow.is_quiet()
        for seen in (ahead, behind):
            for partition in (0, 1):
                mine = [int(event.data) for event in seen if int(event.data) % 2 == partition]
                assert mine == list(range(partition, 10_000, 2))
        kafka.produce(name, "live")
        assert (await slow.next()).data == (await quick.next()).data == "live"


async def test_a_client_that_does_not_read_is_closed(begin: Callable[..., Proxy], kafka: Cluster, name: str) -> None:
    proxy = begin(STREAM_SEND_TIMEOUT_SECONDS=0.5, HEARTBEAT_SECONDS=0.1)
    async with asgi_stream(proxy.app, "/s", unread=1) as stalled, asgi_stream(proxy.app, "/s") as reading:
        await stalled.more()
        await reading.more()
        await until(lambda: len(proxy.runtime.streams) == 1)
        kafka.produce(name, "x")
        assert (await reading.next()).data == "x"


async def test_a_client_that_reads_slowly_is_not_closed(begin: Callable[..., Proxy], kafka: Cluster, name: str) -> None:
    proxy = begin(STREAM_SEND_TIMEOUT_SECONDS=3, HEARTBEAT_SECONDS=0.1)
    kafka.produce_many(name, [{"value": "x" * 300_000} for _ in range(10)])
    async with asgi_stream(proxy.app, "/s", unread=1) as slow:
        for _ in range(10):
            await asyncio.sleep(0.4)  # all of them together are longer than the time-out, and one is much shorter
            await slow.next()
        assert len(proxy.runtime.streams) == 1


async def test_an_idle_stream_gets_comments(begin: Callable[..., Proxy], kafka: Cluster, name: str) -> None:
    proxy = begin(HEARTBEAT_SECONDS=0.1)
    kafka.produce(name, "x", key="k1", headers=[("etag", "1")])
    async with asgi_stream(proxy.app, "/keyed") as s:
        event = await s.next()
        while s.parser.comments < 4:
            await s.more()
        assert s.last_event_id == event.id  # nothing moved: the id with its key and etag still stands


@pytest.mark.parametrize("path", ["/of/other", "/of/k1"])
async def test_an_event_without_data_moves_the_id_past_what_the_filters_held_back(
    begin: Callable[..., Proxy], kafka: Cluster, name: str, path: str
) -> None:
    proxy = begin(HEARTBEAT_SECONDS=0.2)
    async with asgi_stream(proxy.app, path) as s:
        await s.more()
        kafka.produce_many(name, numbered(100))
        while parse_event_id(position := s.parser.last_event_id) != {0: 50, 1: 50}:
            assert await s.more()
    kafka.produce(name, "mine", key=path.rpartition("/")[2], partition=0)
    async with asgi_stream(proxy.app, path, {"last-event-id": position}) as s:
        assert (await s.next()).data == "mine"


async def test_a_long_way_to_the_end_is_told_too(begin: Callable[..., Proxy], kafka: Cluster, name: str) -> None:
    proxy = begin(HEARTBEAT_SECONDS=0)  # so that every page without a frame is a reason
    kafka.produce_many(name, numbered(5000))
    async with asgi_stream(proxy.app, "/of/other") as s:
        positions: list[int] = []
        while not positions or positions[-1] != 5000:
            assert await s.more()
            positions.append(sum(parse_event_id(s.last_event_id).values()))
        assert positions == sorted(positions)
        assert len(set(positions)) > 5


async def test_records_are_framed_once_for_all_who_see_the_same(
    begin: Callable[..., Proxy], kafka: Cluster, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    framed: list[str] = []

    def counting(record: Any, position: str, framing: Any) -> bytes:
        framed.append((record.value or b"").decode())
        return frame_record(record, position, framing)

    frame_record = broadcast.frame_record
    proxy = begin()
    async with AsyncExitStack() as stack:
        paths = ["/s", "/of/k1", "/of/k2", "/of/none", "/keyed"] * 10
        streams = [await stack.enter_async_context(asgi_stream(proxy.app, path)) for path in paths]
        for s in streams:
            await s.more()
        monkeypatch.setattr(tail_module, "frame_record", counting)
        kafka.produce(name, "one", key="k1", partition=0)
        kafka.produce(name, "two", key="k2", partition=0)
        for s, path in zip(streams, paths, strict=True):
            wanted = {"/of/k1": ["one"], "/of/k2": ["two"], "/of/none": []}.get(path, ["one", "two"])
            assert [event.data for event in await s.take(len(wanted))] == wanted
        assert framed == ["one", "one", "two", "two"]  # once plain, once with the key in the id


async def test_a_filter_is_tried_once_for_a_record_however_many_clients_have_it(
    begin: Callable[..., Proxy], kafka: Cluster, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: Counter[tuple[RecordFilter, bytes | None]] = Counter()

    def counting(self: RecordFilter, record: Record) -> bool:
        tried[self, record.value] += 1
        return matches(self, record)

    matches = RecordFilter.matches
    proxy = begin()
    async with AsyncExitStack() as stack:
        paths = ["/of/k1", "/of/k2", "/kind/odd"] * 50
        streams = [await stack.enter_async_context(asgi_stream(proxy.app, path)) for path in paths]
        await asyncio.gather(*(s.more() for s in streams))
        (following,) = proxy.runtime.worker.cluster("default").hub()._followers.values()
        tail = following.follower
        await until(lambda: sum(len(ring.waiters) for ring in tail._rings.values()) == len(paths))
        monkeypatch.setattr(RecordFilter, "matches", counting)
        kinds = [("kind", "odd")], [("kind", "even")]
        kafka.produce_many(name, [{"value": str(n), "key": f"k{n}", "headers": kinds[n % 2], "partition": 0} for n in range(4)])
        for s, path in zip(streams, paths, strict=True):
            wanted = {"/of/k1": ["1"], "/of/k2": ["2"], "/kind/odd": ["0", "2"]}[path]
            assert [event.data for event in await s.take(len(wanted))] == wanted
    assert set(tried.values()) == {1}
    assert len(tried) == 4  # and not at all for a record of another key, or another header


async def test_what_clients_resume_from_together_is_read_once(
    begin: Callable[..., Proxy], kafka: Cluster, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[int, int]] = []

    def counting(self: Store, topic_id: bytes, partition: int, start: int, *rest: int) -> Any:
        reads.append((partition, start))
        return read_log(self, topic_id, partition, start, *rest)

    read_log = Store.read_log
    proxy = begin()
    kafka.produce_many(name, numbered(3000))
    async with asgi_stream(proxy.app, "/s") as s:
        await s.take(3000)
    monkeypatch.setattr(Store, "read_log", counting)
    async with AsyncExitStack() as stack:
        last = {"last-event-id": progress.encode({0: 100, 1: 0})}
        opening = [stack.enter_async_context(asgi_stream(proxy.app, "/s", last)) for _ in range(50)]
        for s in await asyncio.gather(*opening):
            events = await read_to_end(s, kafka, name)
            assert sorted(int(event.data) for event in events) == sorted([*range(200, 3000, 2), *range(1, 3000, 2)])
    assert len(reads) == len(set(reads))
    assert 0 < len(reads) < 10


async def test_the_ring_lets_go_of_what_all_have_sent(begin: Callable[..., Proxy], kafka: Cluster, name: str) -> None:
    proxy = begin()
    async with asgi_stream(proxy.app, "/s") as one, asgi_stream(proxy.app, "/s") as other:
        await one.more()
        await other.more()
        (following,) = proxy.runtime.worker.cluster("default").hub()._followers.values()
        tail = following.follower
        await until(lambda: len(tail._rings) == 1)
        (ring,) = tail._rings.values()
        for number in range(200):
            await until(lambda: len(ring.waiters) == 2)  # they have sent what there is
            kafka.produce(name, str(number))
            for s in (one, other):
                assert (await s.next()).data == str(number)
        assert list(tail._rings.values()) == [ring]
        assert len(ring._frames) <= 2
        assert ring.end == 200


async def test_there_is_a_limit_for_streams(begin: Callable[..., Proxy]) -> None:
    proxy = begin(MAX_STREAMS=3)
    async with AsyncExitStack() as stack:
        opening = [stack.enter_async_context(asgi_stream(proxy.app, "/s")) for _ in range(6)]
        statuses = [s.status for s in await asyncio.gather(*opening)]
        assert sorted(statuses) == [200, 200, 200, 503, 503, 503]  # those that are being opened count
        async with asgi_stream(proxy.app, "/s") as refused:
            assert refused.headers["retry-after"] == "1"
            await refused.rest()
            assert b"urn:kafkaproxy:problem:too-many-streams" in refused.body
    await until(lambda: len(proxy.runtime.streams) == 0)
    async with asgi_stream(proxy.app, "/s") as again:
        assert again.status == 200


async def test_clients_are_told_when_to_come_back(begin: Callable[..., Proxy], kafka: Cluster, name: str) -> None:
    proxy = begin(DRAIN_SECONDS=2, DRAIN_RETRY_MS=900)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(asgi_stream(proxy.app, "/s")) for _ in range(20)]
        for s in streams:
            await s.more()
        kafka.produce(name, "before")
        for s in streams:
            assert (await s.next()).data == "before"
        await proxy.runtime.streams.drained()
        for s in streams:
            assert await s.rest() == []
        retries = {s.parser.retry for s in streams}
        assert len(retries) > 5  # not all at once
        assert all(300 <= (retry or 0) <= 900 for retry in retries)
        # An error would be the end for a browser: it is sent away as one whose connection broke.
        async with asgi_stream(proxy.app, "/s") as late:
            assert (late.status, late.headers["content-type"]) == (200, "text/event-stream")
            assert await late.rest() == []
            assert late.parser.retry is not None
            assert late.last_event_id == ""


async def test_a_client_that_leaves_while_its_stream_is_opened_leaves_nothing_behind(begin: Callable[..., Proxy]) -> None:
    proxy = begin()
    for _ in range(20):
        async with asgi_stream(proxy.app, "/s"):
            pass
    await until(lambda: len(proxy.runtime.streams) == 0)
    hub = proxy.runtime.worker.cluster("default").hub()
    assert hub._followers == {}
