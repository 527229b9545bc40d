"""From a reply to the response: status, fields, body (the contract, *From the reply to the response*; D12)."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import httpx
import pytest
from confluent_kafka import Producer

from kafkaproxy.metrics import REPLIES_UNUSABLE, REPLY_FIELDS_DROPPED
from tests.conformance.conftest import StartProxy, StartService
from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.support.exchange import Exchange, assert_nobody_waits, until
from tests.support.proxy import Proxy, configuration, gateway, produce
from tests.support.service import Reply, Service

Consume = Callable[[str], list[Consumed]]
Headers = Sequence[tuple[str, bytes | str | None]]


class Stage:
    """A proxy and a service that answers what the test says."""

    def __init__(self, proxy: Proxy, service: Service, topics: tuple[str, str]) -> None:
        self.proxy = proxy
        self.service = service
        self.requests, self.replies = topics

    async def answered(self, headers: Headers = (), value: bytes | None = b"", method: str = "POST") -> httpx.Response:
        """Send a request and return what becomes of this reply."""
        self.service.answer = lambda _asked: Reply(value, headers)
        return await self.proxy.request(method, "/", content=b"x" if method != "HEAD" else None)


@pytest.fixture(scope="module")
def shared(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One proxy for all the tests that only differ in what the service answers."""
    requests, replies = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("requests", "replies"))
    kafka.create_topic(requests)
    kafka.create_topic(replies, config={"max.message.bytes": str(12 << 20)})
    route = produce("/", "GET /", "HEAD /", topic=requests, reply_to=replies, correlation_header="x-ours")
    proxy = Proxy(tmp_path_factory.mktemp("answer"), configuration(kafka.bootstrap, gateway(route)))
    service = Service(kafka.bootstrap, requests, id_header="x-ours")
    yield Stage(proxy, service, (requests, replies))
    service.close()
    proxy.close()
    kafka.delete_topics([requests, replies])


@pytest.fixture
def stage(shared: Stage) -> Stage:
    shared.service.asked.clear()
    return shared


async def test_a_reply_without_status_is_200(stage: Stage) -> None:
    response = await stage.answered([("content-type", "text/plain")], b"hello")
    assert (response.status_code, response.content) == (200, b"hello")
    assert response.headers["content-type"] == "text/plain"
    assert response.headers["content-length"] == "5"


@pytest.mark.parametrize("status", [200, 201, 301, 404, 418, 500, 599])
async def test_a_status_is_taken_over(stage: Stage, status: int) -> None:
    response = await stage.answered([(":status", str(status))], b"body")
    assert (response.status_code, response.content) == (status, b"body")


@pytest.mark.parametrize(
    "status", ["", "99", "100", "101", "199", "600", "2000", "20", "abc", "-20", " 20", "2e2", "٢٠٠", None]
)
async def test_a_status_that_is_none_is_502(stage: Stage, status: str | None, caplog: pytest.LogCaptureFixture) -> None:
    unusable = REPLIES_UNUSABLE.cell("gateway", "produce")
    before = unusable.value
    response = await stage.answered([(":status", status)], b"secret")
    assert response.status_code == 502
    assert unusable.value - before == 1
    assert response.json()["type"] == "urn:kafkaproxy:problem:bad-reply"
    assert b"secret" not in response.content
    assert "bad_reply" in caplog.text


async def test_the_last_of_two_statuses_counts(stage: Stage) -> None:
    assert (await stage.answered([(":status", "nonsense"), (":status", "202")])).status_code == 202


@pytest.mark.parametrize("status", ["204", "205", "304"])
async def test_a_status_without_a_body_has_none(stage: Stage, status: str) -> None:
    response = await stage.answered([(":status", status), ("etag", '"1"')], b"not to be sent")
    assert (response.status_code, response.content) == (int(status), b"")
    assert response.headers["etag"] == '"1"'
    assert response.headers.get("content-length") == ("0" if status == "205" else None)


async def test_a_null_value_is_an_empty_body(stage: Stage) -> None:
    response = await stage.answered([(":status", "412")], None)
    assert (response.status_code, response.content, response.headers["content-length"]) == (412, b"", "0")


async def test_headers_become_fields_in_order_duplicates_too(stage: Stage) -> None:
    given = [("Set-Cookie", "a=1"), ("X-Custom", "one"), ("set-cookie", "b=2"), ("x-custom", "two"), ("empty", "")]
    response = await stage.answered(given)
    fields = [(name, value) for name, value in response.headers.raw if name != b"content-length"]
    assert fields == [(name.lower().encode(), value.encode()) for name, value in given]


async def test_what_is_ours_is_not_for_clients(stage: Stage) -> None:
    response = await stage.answered([("zilla:reply-to", "x"), ("ZILLA:anything", "y"), ("x-ours", "the id"), ("x-theirs", "z")])
    assert dict(response.headers) == {"x-theirs": "z", "content-length": "0"}


async def test_hop_by_hop_fields_end_here(stage: Stage) -> None:
    headers = [("connection", "close, X-Hop"), ("x-hop", "1"), ("keep-alive", "5"), ("transfer-encoding", "chunked")]
    headers += [("upgrade", "h2c"), ("te", "x"), ("trailer", "y"), ("proxy-authenticate", "Basic"), ("x-end", "1")]
    response = await stage.answered(headers, b"body")
    assert dict(response.headers) == {"x-end": "1", "content-length": "4"}


async def test_the_length_is_that_of_the_value(stage: Stage) -> None:
    response = await stage.answered([("content-length", "9999"), ("Content-Length", "1")], b"body")
    assert response.headers.get_list("content-length") == ["4"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-split", b"a\r\nset-cookie: evil=1"),
        ("x-cr", b"a\rb"),
        ("x-lf", b"a\nb"),
        ("x-nul", b"a\0b"),
        ("x-control", b"a\x1fb"),
        ("x-delete", b"a\x7fb"),
        ("x-leading", b" a"),
        ("x-trailing", b"a\t"),
        ("x-null", None),
        ("x space", b"a"),
        ("x:colon", b"a"),
        ("x\r\nset-cookie", b"evil=1"),
        ("", b"a"),
        ("ünïcode", b"a"),
        (":path", b"/"),
    ],
)
async def test_what_is_no_field_is_dropped_counted_and_logged(
    stage: Stage, name: str, value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:  # D12
    dropped = REPLY_FIELDS_DROPPED.cell("gateway", "produce")
    before = dropped.value
    response = await stage.answered([(name, value), ("x-good", b"1")], b"body")
    assert (response.status_code, response.content) == (200, b"body")
    assert dict(response.headers) == {"x-good": "1", "content-length": "4"}
    assert dropped.value - before == 1
    assert "reply_header_dropped route=produce" in caplog.text
    assert "\n" not in caplog.records[-1].getMessage()


async def test_bytes_beyond_ascii_in_a_value_are_kept(stage: Stage) -> None:
    response = await stage.answered([("x-name", "café".encode("latin-1")), ("x-utf8", "café".encode())])
    fields = dict(response.headers.raw)
    assert (fields[b"x-name"], fields[b"x-utf8"]) == ("café".encode("latin-1"), "café".encode())


async def test_a_body_of_ten_megabytes_arrives_whole(stage: Stage) -> None:
    body = bytes(range(256)) * (40 << 10)
    response = await stage.answered([("content-type", "application/octet-stream")], body)
    assert response.content == body
    assert response.headers["content-length"] == str(10 << 20)


async def test_a_request_of_ten_megabytes_arrives_whole(start: StartProxy, service: StartService, topic: TopicFactory) -> None:
    large = {"max.message.bytes": str(12 << 20)}
    requests, replies = topic(config=large), topic(config=large)
    proxy = start(produce("/", topic=requests, reply_to=replies))
    service(requests)
    body = b"0123456789" * (1 << 20)
    assert (await proxy.request("POST", "/", content=body)).content == body


async def test_head_has_the_fields_and_no_body(stage: Stage) -> None:
    response = await stage.answered([("content-type", "text/plain")], b"hello", "HEAD")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "5")


async def test_the_length_of_head_is_what_the_service_says_where_it_sends_no_body(stage: Stage) -> None:
    assert (await stage.answered([("Content-Length", "1234")], None, "HEAD")).headers["content-length"] == "1234"
    assert "content-length" not in (await stage.answered([("content-length", "-1")], None, "HEAD")).headers
    assert "content-length" not in (await stage.answered([], None, "HEAD")).headers


async def test_a_route_that_says_so_serves_get(stage: Stage, kcat_consume: Consume) -> None:
    response = await stage.answered([], b"got", "GET")
    assert response.content == b"got"
    assert kcat_consume(stage.requests)[-1].header(":method") == "GET"


async def test_replies_of_a_compacted_topic_are_kept_though_their_key_has_a_newer_one(
    start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:
    compacted = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    requests, replies = topic(name="requests"), topic(name="replies", config=compacted)
    proxy = start(produce("/{id}", topic=requests, key="${params.id}", reply_to=replies))
    service(requests)
    for number in range(3):
        for _ in range(2):
            response = await proxy.request("PUT", "/1", content=b"%d" % number, headers={"idempotency-key": f"key-{number}"})
            assert response.content == b"%d" % number
    for number in range(3):  # all of one record key
        response = await proxy.request("PUT", "/1", content=b"%d" % number, headers={"idempotency-key": f"key-{number}"})
        assert response.content == b"%d" % number
    assert len(kcat_consume(requests)) == 3


async def test_records_that_are_no_replies_are_passed_over(stage: Stage, kafka: Cluster) -> None:
    kafka.produce(stage.replies, "no headers")
    kafka.produce(stage.replies, None, key="tombstone")
    kafka.produce(stage.replies, "null id", headers=[("zilla:correlation-id", None)])
    kafka.produce(stage.replies, "somebody else's", headers=[("zilla:correlation-id", b"another" * 100)])
    kafka.produce(stage.replies, "many", headers=[(f"h{number}", b"x") for number in range(2000)])
    kafka.produce(stage.replies, "long", headers=[("n" * 70_000, b"x" * 70_000)])
    assert (await stage.answered([], b"mine")).content == b"mine"


async def test_a_header_whose_name_is_not_utf8_stops_nobody(
    stage: Stage, kafka: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await stage.answered([], b"before")).content == b"before"
    kcat = ["kcat", "-b", kafka.bootstrap, "-P", "-t", stage.replies, "-H", b"na\xffme=value", "-H", "a=b"]
    await asyncio.to_thread(subprocess.run, kcat, input=b"odd\n", check=True, timeout=30)
    assert (await stage.answered([], b"after")).content == b"after"
    with caplog.at_level(logging.ERROR):
        await until(lambda: "headers_unreadable" in caplog.text)


async def test_a_reply_of_a_transaction_is_found_though_the_log_ends_with_its_marker(
    kafka: Cluster, start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:
    requests, replies = topic(name="requests"), topic(name="replies")
    proxy, silent = start(produce("/", topic=requests, reply_to=replies)), service(requests, lambda _asked: None)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": replies})
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, producer.init_transactions, 30)
    for number in range(3):
        fields = {"idempotency-key": f"key-{number}"}
        asking = asyncio.ensure_future(proxy.request("POST", "/", headers=fields))
        await until(lambda n=number: len(silent.asked) > n)  # type: ignore[misc]
        correlation = silent.asked[number].header("zilla:correlation-id")
        producer.begin_transaction()
        producer.produce(replies, b"aborted", headers=[("zilla:correlation-id", correlation)])
        await loop.run_in_executor(None, producer.abort_transaction, 30)
        producer.begin_transaction()
        producer.produce(replies, b"committed", headers=[("zilla:correlation-id", correlation)])
        await loop.run_in_executor(None, producer.commit_transaction, 30)
        assert (await asking).content == b"committed"
        assert (await proxy.request("POST", "/", headers=fields)).content == b"committed"
    assert len(kcat_consume(requests)) == 3


async def test_a_header_of_the_route_carries_the_id_and_the_reply_the_gateways(
    start: StartProxy, service: StartService, topic: TopicFactory, kcat_consume: Consume
) -> None:  # the reference's with.correlation-id
    requests, replies = topic(name="requests"), topic(name="replies")
    proxy = start(produce("/", topic=requests, reply_to=replies, correlation_header="correlationId"))
    silent = service(requests, lambda _asked: None)
    asking = Exchange(proxy.app, "POST", "/", {"correlationid": "from outside"})
    asking.send(b"x")
    await until(lambda: silent.asked)
    [asked] = silent.asked
    [record] = kcat_consume(requests)
    assert [name for name, _ in record.headers if "orrelation" in name] == ["correlationId"]
    assert record.headers[-1] == ("correlationId", asked.header("correlationId").decode())
    headers = [("zilla:correlation-id", asked.header("correlationId")), ("correlationId", b"echoed"), ("x", b"1")]
    silent._producer.produce(replies, b"done", headers=headers)
    await asking.end()
    assert (asking.status, asking.body) == (200, b"done")
    assert asking.fields == [(b"x", b"1"), (b"content-length", b"4")]
    assert_nobody_waits(proxy)


async def test_a_gateway_may_name_its_headers(
    start: StartProxy, service: StartService, topic: TopicFactory, kafka: Cluster, kcat_consume: Consume
) -> None:
    requests, replies = topic(name="requests"), topic(name="replies")
    names = {"reply_to_header": "x-reply-to", "correlation_header": "x-id", "idempotency_header": b"x-key"}
    config = configuration(kafka.bootstrap, gateway(produce("/", topic=requests, reply_to=replies), **names))
    [cluster] = config.clusters.values()
    cluster = replace(cluster, correlation_headers=frozenset({"x-id"}))
    proxy = start(config=replace(config, clusters={cluster.name: cluster}))
    silent = service(requests, lambda _asked: None)
    asking = asyncio.ensure_future(proxy.request("POST", "/", headers={"x-key": "k", "x-id": "mine", "x-reply-to": "evil"}))
    await until(lambda: silent.asked)
    [record] = kcat_consume(requests)
    assert record.header("x-reply-to") == replies
    assert str(record.header("x-id")).startswith("k-")
    assert record.headers[-1][0] == "x-id"
    silent._producer.produce(replies, b"done", headers=[("x-id", silent.asked[0].header("x-id"))])
    response = await asking
    assert response.content == b"done"
    assert "x-id" not in response.headers
