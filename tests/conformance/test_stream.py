"""Streams on real Kafka: the rows of the reference's tables for sse and sse-kafka, and the contract, *Stream*."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from kafkaproxy.core import progress
from kafkaproxy.core.eventids import parse_event_id
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, gateway, stream
from tests.support.streams import Event, EventStream, asgi_stream

HELLO = b"Hello, world"
AGAIN = b"Hello, again"
MATCHING = [("zilla:identity", "test"), ("tag", "example-tag")]

Open = Callable[..., AbstractAsyncContextManager[EventStream]]


@pytest.fixture
def records(topic: TopicFactory) -> str:
    return topic(name="stream", partitions=2)


@pytest.fixture
def proxy(kafka: Cluster, records: str, tmp_path: Path) -> Iterator[Proxy]:
    either = [{"key": "example-key", "headers": dict(MATCHING)}]
    dynamic = [{"key": "${params.key}", "headers": {"zilla:identity": "test", "tag": "${params.tag}"}}]
    routes = [
        stream("/test", topic=records),
        stream("/keyed", topic=records, event_id_key=True, name="keyed"),
        stream("/base64", topic=records, base64=True, name="base64"),
        stream("/filtered", topic=records, filters=either, name="filtered"),
        stream("/filtered/{key}/{tag}", topic=records, filters=dynamic, name="dynamic"),
        stream("/either/{a}/{b}", topic=records, filters=[{"key": "${params.a}"}, {"key": "${params.b}"}], name="either"),
        stream("/topics/{topic}", topic="${params.topic}", name="any"),
        stream("/latest", topic=records, start="latest", name="latest"),
        stream("/since", topic=records, start="timestamp", start_timestamp=2_000, name="since"),
    ]
    running = Proxy(tmp_path, configuration(kafka.bootstrap, gateway(*routes)))
    yield running
    running.close()


@pytest.fixture
def opened(proxy: Proxy) -> Open:
    def open_one(path: str, last: str | None = None, **options: Any) -> AbstractAsyncContextManager[EventStream]:
        headers = {} if last is None else {"last-event-id": last}
        return asgi_stream(proxy.app, path, headers, **options)

    return open_one


def hello(kafka: Cluster, topic: str) -> None:
    """Leave the log as the reference's scripts have it: their record is at partition 0, offset 1, another in partition 1."""
    kafka.produce(topic, b"before", partition=1)
    kafka.produce(topic, b"first", partition=0)


# The tables: sse-kafka


async def test_handshake(opened: Open, kafka: Cluster, records: str) -> None:
    async with opened("/test") as s:
        assert s.status == 200
        assert s.headers["content-type"] == "text/event-stream"
        assert s.headers["cache-control"] == "no-store"
        assert s.headers["x-accel-buffering"] == "no"
        assert "content-length" not in s.headers
        await s.more()
        assert s.body == b":\n\nid:AQQAAAIA\n\n"  # at once: a comment, and where the stream is


async def test_handshake_of_a_topic_in_the_path(opened: Open, kafka: Cluster, records: str) -> None:
    kafka.produce(records, HELLO, partition=0)
    async with opened(f"/topics/{records}") as s:
        assert (await s.next()).data == "Hello, world"


@pytest.mark.parametrize("path", ["/filtered", "/filtered/example-key/example-tag"])
async def test_handshake_with_filters(opened: Open, kafka: Cluster, records: str, path: str) -> None:
    async with opened(path) as live:
        kafka.produce(records, b"another key", key="other", headers=MATCHING)
        kafka.produce(records, b"no key", headers=MATCHING)
        kafka.produce(records, b"a header too few", key="example-key", headers=MATCHING[:1])
        kafka.produce(records, b"another tag", key="example-key", headers=[*MATCHING[:1], ("tag", "other")])
        kafka.produce(records, b"a null tag", key="example-key", headers=[*MATCHING[:1], ("tag", None)])
        kafka.produce(records, b"first", key="example-key", headers=MATCHING)
        # A header may stand several times.
        kafka.produce(records, b"second", key="example-key", headers=[("tag", "other"), *MATCHING, ("more", "x")])
        assert [each.data for each in await live.take(2)] == ["first", "second"]
    async with opened(path) as stored:
        assert [each.data for each in await stored.take(2)] == ["first", "second"]


async def test_filters_are_alternatives_and_a_record_comes_once(opened: Open, kafka: Cluster, records: str) -> None:
    async with opened("/either/a/b") as live:
        for key in ("a", "c", "b", "a"):
            kafka.produce(records, key, key=key, partition=0)
        assert [each.data for each in await live.take(3)] == ["a", "b", "a"]
    async with opened("/either/a/a") as same:
        assert [each.data for each in await same.take(2)] == ["a", "a"]
        assert await same.is_quiet()


async def test_params_are_decoded_before_they_filter(opened: Open, kafka: Cluster, records: str) -> None:
    kafka.produce(records, HELLO, key="a/b c")
    async with opened("/either/a%2Fb%20c/none") as s:
        assert (await s.next()).data == "Hello, world"


async def test_handshake_rejected(opened: Open) -> None:
    async with opened("/unexpected") as s:
        assert s.status == 299  # it is the site's


async def test_handshake_reconnect(opened: Open, kafka: Cluster, records: str) -> None:
    hello(kafka, records)
    kafka.produce(records, HELLO, partition=0)
    async with opened("/test") as s:
        events = await s.take(3)
        assert events[-1].id == s.last_event_id
        assert progress.decode(s.last_event_id) == {0: 2, 1: 1}
        assert s.last_event_id == "AQQABAIC"
    async with opened("/test", "AQQABAIC") as s:
        kafka.produce(records, AGAIN, partition=0)
        assert await s.next() == Event("message", "Hello, again", "AQQABgIC")


async def test_handshake_reconnect_with_etag(opened: Open, kafka: Cluster, records: str) -> None:
    hello(kafka, records)
    async with opened("/test", "AQQAAgIC") as s:
        kafka.produce(records, HELLO, partition=0, headers=[("etag", "revision=42")])
        assert await s.next() == Event("message", "Hello, world", "AQQABAIC/revision=42")
    async with opened("/test", "AQQABAIC/revision=42") as s:
        kafka.produce(records, AGAIN, partition=0, headers=[("etag", "revision=43"), ("etag", "second")])
        assert await s.next() == Event("message", "Hello, again", "AQQABgIC/revision=43")


async def test_server_sent_messages(opened: Open, kafka: Cluster, records: str) -> None:
    hello(kafka, records)
    async with opened("/test", "AQQAAgIC") as s:
        kafka.produce(records, HELLO, partition=0)
        kafka.produce(records, AGAIN, partition=0)
        await s.take(2)
        assert b"id:AQQABAIC\ndata:Hello, world\n\nid:AQQABgIC\ndata:Hello, again\n\n" in s.body
        assert b"event:" not in s.body
        assert b"retry:" not in s.body


async def test_server_sent_messages_with_key_and_etag(opened: Open, kafka: Cluster, records: str) -> None:
    hello(kafka, records)
    async with opened("/keyed", "AQQAAgIC") as s:
        kafka.produce(records, HELLO, key="key", partition=0, headers=[("etag", "revision=42")])
        kafka.produce(records, AGAIN, partition=0)
        assert [each.id for each in await s.take(2)] == ['["a2V5","AQQABAIC/revision=42"]', '[null,"AQQABgIC"]']


@pytest.mark.parametrize("last", ['["a2V5","AQQABAIC"]', '["a2V5","AQQABAIC/revision=42"]', '[null,"AQQABAIC"]'])
async def test_keyed_ids_are_resumed(opened: Open, kafka: Cluster, records: str, last: str) -> None:  # D20
    hello(kafka, records)
    kafka.produce_many(records, [{"value": HELLO}, {"value": AGAIN}], partition=0)
    async with opened("/keyed", last) as s:
        assert (await s.next()).data == "Hello, again"
        assert await s.is_quiet()


async def test_server_sent_null(opened: Open, kafka: Cluster, records: str) -> None:
    hello(kafka, records)
    async with opened("/test", "AQQAAgIC") as live:
        kafka.produce(records, None, key="key", partition=0)
        assert await live.next() == Event("delete", "a2V5", "AQQABAIC")
        kafka.produce(records, None, key=b"\xff\xfe", partition=0)
        assert base64.urlsafe_b64decode((await live.next()).data) == b"\xff\xfe"
    async with opened("/test", "AQQAAgIC") as stored:
        assert await stored.next() == Event("delete", "a2V5", "AQQABAIC")


async def test_server_sent_100k_message(opened: Open, kafka: Cluster, records: str) -> None:
    value = bytes(range(256)) * 400
    kafka.produce(records, value, partition=0)
    async with opened("/test") as s:
        event = await s.next()
        assert (event.type, base64.b64decode(event.data)) == ("binary", value)  # D19
    async with opened("/base64") as s:
        kafka.produce(records, "text", partition=0)
        events = await s.take(2)
        assert [each.type for each in events] == ["message", "message"]
        assert [base64.b64decode(each.data) for each in events] == [value, b"text"]


async def test_client_sent_abort_ends_the_stream(opened: Open, proxy: Proxy) -> None:
    async with opened("/test") as s:
        await s.more()
        assert len(proxy.runtime.streams) == 1
    assert len(proxy.runtime.streams) == 0


# The tables: sse


async def test_a_query_does_not_matter(opened: Open) -> None:  # handshake/connection.succeeded.with.request.parameter
    async with opened("/test", query=".p=v&lastEventIds=x") as s:
        assert s.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE", "OPTIONS"])
async def test_request_method_unsupported(proxy: Proxy, method: str) -> None:
    response = await proxy.request(method, "/test")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("as_query", [False, True], ids=["field", "query"])
class TestLastEventId:
    """``request.header.last.event.id*``, ``request.parameter.last.event.id*``, ``id/reject.*``, ``reconnect/*``."""

    def ask(self, opened: Open, last: str, as_query: bool) -> AbstractAsyncContextManager[EventStream]:
        if not as_query:
            return opened("/test", last)
        return opened("/test", query="a=b&lastEventId=" + last.replace("%", "%25").replace("+", "%2B").replace("&", "%26"))

    async def test_it_resumes(self, opened: Open, kafka: Cluster, records: str, as_query: bool) -> None:
        hello(kafka, records)
        kafka.produce(records, HELLO, partition=0)
        async with self.ask(opened, "AQQAAgIC", as_query) as s:
            assert await s.next() == Event("message", "Hello, world", "AQQABAIC")
            assert await s.is_quiet()

    async def test_an_empty_one_is_none(self, opened: Open, kafka: Cluster, records: str, as_query: bool) -> None:
        kafka.produce(records, HELLO, partition=0)
        async with self.ask(opened, "", as_query) as s:
            assert (await s.next()).data == "Hello, world"

    async def test_a_long_one_is_resumed(self, opened: Open, kafka: Cluster, records: str, as_query: bool) -> None:
        hello(kafka, records)
        async with self.ask(opened, "AQQAAgIC/" + "x" * 4000, as_query) as s:  # D20: 254 bytes in the reference
            kafka.produce(records, HELLO, partition=0)
            assert (await s.next()).data == "Hello, world"

    async def test_one_that_is_too_long_is_400(self, opened: Open, as_query: bool) -> None:
        async with self.ask(opened, "AQQAAgIC/" + "x" * 4088, as_query) as s:
            assert (s.status, s.headers["content-type"]) == (400, "application/problem+json")
            await s.rest()
            assert b"urn:kafkaproxy:problem:event-id-too-long" in s.body

    @pytest.mark.parametrize("last", ["100", "AQQA", "AQQABAI^", "[", '["a2V5"]', "é", "AQQABAIC AQQABAIC"])
    async def test_one_that_does_not_decode_is_400(self, opened: Open, last: str, as_query: bool) -> None:  # D22
        async with self.ask(opened, last, as_query) as s:
            assert s.status == 400
            await s.rest()
            assert b"urn:kafkaproxy:problem:bad-event-id" in s.body

    async def test_one_of_the_reference_that_was_delivered_nothing_starts_at_the_beginning(
        self, opened: Open, kafka: Cluster, records: str, as_query: bool
    ) -> None:
        hello(kafka, records)
        async with self.ask(opened, progress.encode({-1: -2, 0: -2, 1: 1}), as_query) as s:
            assert await s.next() == Event("message", "first", "AQQAAgIC")
            assert await s.is_quiet()


async def test_the_field_comes_before_the_query_parameter(opened: Open, kafka: Cluster, records: str) -> None:
    hello(kafka, records)
    async with opened("/test", "AQQAAgIC", query="lastEventId=AQQAAAIA") as s:  # header.and.parameter.last.event.id
        assert await s.is_quiet()
    async with opened("/test", "", query="lastEventId=AQQAAgIC") as s:  # an empty field counts as there
        assert len(await s.take(2)) == 2


async def test_data_of_any_kind(opened: Open, kafka: Cluster, records: str) -> None:  # data/*
    values = [b"Hello, world", b"", b"a\nb\n", b"a\r\nb\rc", b" x", b"x" * 102_400, "é…😀".encode(), b"\0", b"\xef\xbb\xbfx"]
    kafka.produce_many(records, [{"value": value} for value in values], partition=0)
    async with opened("/test") as s:
        events = await s.take(len(values))
    assert [each.data for each in events] == [value.decode().replace("\r\n", "\n").replace("\r", "\n") for value in values]
    assert {each.type for each in events} == {"message"}


# The contract, *Stream*


async def test_an_unknown_topic_is_503(opened: Open) -> None:  # D24
    async with opened("/topics/there-is-no-such-topic") as s:
        assert s.status == 503
        assert s.headers["retry-after"] == "1"
        await s.rest()
        assert b"urn:kafkaproxy:problem:topic-unknown-topic" in s.body


async def test_a_name_that_no_topic_can_have_is_404(opened: Open) -> None:
    async with opened("/topics/a%2Fb") as s:
        assert s.status == 404


async def test_order_is_kafkas_in_each_partition_from_the_store_and_live(opened: Open, kafka: Cluster, records: str) -> None:
    def numbered(begin: int) -> list[dict[str, Any]]:
        return [{"value": f"{number % 2}-{number // 2}", "partition": number % 2} for number in range(begin, begin + 1500)]

    kafka.produce_many(records, numbered(0))
    async with opened("/test") as s:
        kafka.produce_many(records, numbered(1500))
        events = await s.take(3000)
        assert await s.is_quiet()
    for partition in (0, 1):
        seen = [event for event in events if event.data.startswith(f"{partition}-")]
        assert [event.data for event in seen] == [f"{partition}-{number}" for number in range(1500)]
    position = {0: 0, 1: 0}
    for event in events:  # every id is every partition with its next offset
        partition, number = map(int, event.data.split("-"))
        position[partition] = number + 1
        assert parse_event_id(event.id) == position


async def test_start_latest_is_fixed_before_the_response_begins(opened: Open, kafka: Cluster, records: str) -> None:  # D21
    hello(kafka, records)
    async with opened("/latest") as s:
        kafka.produce(records, HELLO, partition=0)  # before anything of the body was read
        assert await s.next() == Event("message", "Hello, world", "AQQABAIC")
        assert await s.is_quiet()


async def test_an_immediate_drop_resumes_exactly(opened: Open, kafka: Cluster, records: str) -> None:
    hello(kafka, records)
    async with opened("/latest") as s:
        await s.more()
        last = s.last_event_id
    kafka.produce(records, HELLO, partition=0)
    async with opened("/latest", last) as s:
        assert await s.next() == Event("message", "Hello, world", "AQQABAIC")
        assert await s.is_quiet()


async def test_start_by_timestamp(opened: Open, kafka: Cluster, records: str) -> None:  # D21
    for timestamp in (1_000, 2_000, 3_000):
        kafka.produce(records, str(timestamp), partition=0, timestamp=timestamp)
    kafka.produce(records, "older", partition=1, timestamp=1_500)
    async with opened("/since") as s:
        assert [each.data for each in await s.take(2)] == ["2000", "3000"]
        kafka.produce(records, "new", partition=1, timestamp=1_600)
        assert (await s.next()).data == "new"  # what comes later is new, whatever its timestamp says


async def test_a_resumed_stream_does_not_start_where_new_ones_do(opened: Open, kafka: Cluster, records: str) -> None:
    hello(kafka, records)
    async with opened("/latest", "AQQAAAIA") as s:
        assert {each.data for each in await s.take(2)} == {"first", "before"}


async def test_a_header_may_be_anything(opened: Open, kafka: Cluster, records: str) -> None:
    evil = b'\r\n\r\ndata:evil\n\nid:0\n\n\0\xff"\\/'
    kafka.produce(records, HELLO, key=evil, partition=0, headers=[("etag", evil)])
    kafka.produce(records, None, key=evil, partition=0, headers=[("etag", evil)])
    async with opened("/keyed") as s:
        first, second = await s.take(2)
        assert (first.type, first.data) == ("message", "Hello, world")
        assert base64.urlsafe_b64decode(second.data) == evil
        assert parse_event_id(second.id) == {0: 2, 1: 0}
        last = s.last_event_id
        assert await s.is_quiet()
    async with opened("/keyed", last) as s:
        kafka.produce(records, AGAIN, partition=0)
        assert (await s.next()).data == "Hello, again"
