"""Streams on real Kafka: rows of the reference's tables for sse and sse-kafka that test_stream.py has no room for."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from kafkaproxy.core import progress
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.exchange import Exchange, until
from tests.support.proxy import Proxy, configuration, gateway, stream
from tests.support.streams import asgi_stream

HELLO = b"Hello, world"


@pytest.fixture
def records(topic: TopicFactory) -> str:
    return topic(name="stream", partitions=2)


@pytest.fixture
def proxy(kafka: Cluster, records: str, tmp_path: Path) -> Iterator[Proxy]:
    routes = [stream("/test", topic=records), stream("/keyed", topic=records, event_id_key=True, name="keyed")]
    running = Proxy(tmp_path, configuration(kafka.bootstrap, gateway(*routes)))
    yield running
    running.close()


async def test_an_id_of_a_long_key_or_etag_is_one_that_resumes(proxy: Proxy, kafka: Cluster, records: str) -> None:
    for key, etag in (("k" * 4000, "1"), ("k", "é" * 1000), ("k" * 100, "1")):
        kafka.produce(records, "x", key=key, headers=[("etag", etag)], partition=0)
    async with asgi_stream(proxy.app, "/keyed") as s:
        events = await s.take(3)
    keys = [json.loads(event.id)[0] for event in events]
    assert keys == [None, base64.b64encode(b"k").decode(), base64.urlsafe_b64encode(b"k" * 100).decode()]
    assert [json.loads(event.id)[1].partition("/")[2] for event in events] == ["", "", "1"]
    for number, event in enumerate(events):
        async with asgi_stream(proxy.app, "/keyed", {"last-event-id": event.id}) as s:
            assert s.status == 200
            kafka.produce(records, f"after {number}", partition=1)
            assert [each.id for each in await s.take(2 - number)] == [each.id for each in events[number + 1 :]]


@pytest.mark.parametrize(("partitions", "status"), [(2000, 200), (5000, 400)])
async def test_a_position_of_many_partitions_is_read_up_to_a_bound(proxy: Proxy, partitions: int, status: int) -> None:
    last = progress.encode(dict.fromkeys(range(partitions), 10**7))
    async with asgi_stream(proxy.app, "/test", {"last-event-id": last}) as s:
        assert s.status == status
        if status == 200:  # the topic had as many once, for all we know
            assert len(json.loads((await s.next()).data)["lost"]) == partitions
            assert progress.decode(s.last_event_id) == {0: 0, 1: 0}


@pytest.mark.parametrize("as_query", [False, True], ids=["field", "query"])
@pytest.mark.parametrize(("count", "status"), [(1021, 200), (1022, 400)])
async def test_last_event_id_overflow_multibyte(
    proxy: Proxy, kafka: Cluster, records: str, count: int, status: int, as_query: bool
) -> None:
    last = "AQQAAgIC/" + "\N{GRINNING FACE}" * count  # 4 bytes each: it is bytes that count
    kafka.produce_many(records, [{"value": b""}, {"value": HELLO}], partition=0)
    kafka.produce(records, b"", partition=1)
    headers, query = ({}, f"lastEventId={quote(last)}") if as_query else ({"last-event-id": last}, "")
    async with asgi_stream(proxy.app, "/test", headers, query=query) as s:
        assert s.status == status
        if status == 200:
            assert (await s.next()).data == "Hello, world"


@pytest.mark.parametrize("key", ["key", '\N{GRINNING FACE} ?&=#"]', None])
async def test_a_keyed_id_resumes_from_the_query(proxy: Proxy, kafka: Cluster, records: str, key: str | None) -> None:
    async with asgi_stream(proxy.app, "/keyed") as s:
        for etag in ("a+b %2F", "2"):
            kafka.produce(records, HELLO, key=key, headers=[("etag", etag)], partition=0)
        first, second = await s.take(2)
    async with asgi_stream(proxy.app, "/keyed", query=f"a=b&lastEventId={quote(first.id, safe='')}&c=d") as s:
        assert await s.next() == second
        assert await s.is_quiet(0.2)


async def test_handshake_rejected_where_no_configuration_is(kafka: Cluster, tmp_path: Path) -> None:
    empty = Proxy(tmp_path / "empty", configuration(kafka.bootstrap))
    try:
        async with asgi_stream(empty.app, "/unexpected") as s:
            assert s.status == 299  # it is the site's
    finally:
        empty.close()


async def test_client_sent_message_is_passed_over(proxy: Proxy, kafka: Cluster, records: str) -> None:
    request = Exchange(proxy.app, "GET", "/test")
    request.send(b"Hello, world", more=True)
    await until(lambda: b"\n\nid:" in request.body)
    request.send(b"Hello, again")
    kafka.produce(records, HELLO, partition=0)
    await until(lambda: b"data:Hello, world\n\n" in request.body)
    assert not request.done
    request.hang_up()
    await request.end()
    assert request.status == 200


async def test_client_sent_reset_by_a_server_that_raises_leaves_nothing_behind(proxy: Proxy) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    async def raising(scope: Any, receive: Callable[..., Any], send: Any) -> None:
        async def receive_or_raise() -> Any:
            if (message := await receive())["type"] == "http.disconnect":
                raise ConnectionResetError("the client is gone")
            return message

        await proxy.app(scope, receive_or_raise, send)

    async with asgi_stream(raising, "/test") as s:
        await s.more()
        assert len(proxy.runtime.streams) == 1
    await until(lambda: len(proxy.runtime.streams) == 0)
    gc.collect()
    assert complaints == []  # such as that an exception was never retrieved
