"""Oneway produce on real Kafka: the rows of the reference's table, and the contract, *Oneway*."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kafkaproxy.worker.types import Acks
from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.support.proxy import Proxy, configuration, gateway, produce

ITEM = "92d0bf92-63e0-4cfc-ae73-71dee92d1544"
KEY = "3f96592e-c8f1-4167-8c46-85f2aabb70a5"
Consume = Callable[[str], list[Consumed]]


@pytest.fixture
def commands(topic: TopicFactory) -> str:
    return topic(name="items-commands")


class Warm(Proxy):
    """A proxy that has served every path before, so that its fast path serves it where it has one."""

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request, after two that are refused before anything is produced."""
        for _ in range(2):
            await super().request(method, path, headers={"idempotency-key": "k" * 300})
        return await super().request(method, path, **options)


@pytest.fixture(params=[Proxy, Warm])
def kind(request: pytest.FixtureRequest) -> type[Proxy]:
    proxy: type[Proxy] = request.param
    return proxy


@pytest.fixture
def proxy(kind: type[Proxy], kafka: Cluster, commands: str, topic: TopicFactory, tmp_path: Path) -> Iterator[Proxy]:
    compacted = topic(name="compacted", config={"cleanup.policy": "compact"})
    small = topic(name="small", config={"max.message.bytes": "2000"})
    routes = gateway(
        produce("/items/{id}", topic=commands, key="${params.id}", acks=Acks.LEADER_ONLY, overrides={"zilla:identity": "test"}),
        produce("POST /items", topic=commands, key="${idempotencyKey}"),
        produce("/events", topic=commands),
        produce("/typed", topic=commands, overrides={"content-type": "application/x-ours"}),
        produce("/unsure", topic=commands, acks=Acks.NONE),
        produce("/compacted", topic=compacted),
        produce("/small", topic=small),
        produce("/missing", topic="there-is-no-such-topic"),
        produce("/to/{name}", topic="${params.name}"),
    )
    running: Proxy = kind(tmp_path, configuration(kafka.bootstrap, routes))
    yield running
    running.close()


async def test_put_item_without_reply_keeps_only_content_type_and_overrides(
    proxy: Proxy, commands: str, kcat_consume: Consume
) -> None:  # row 72
    response = await proxy.request(
        "PUT",
        f"/items/{ITEM}",
        headers={"content-type": "application/json", "idempotency-key": KEY, "authorization": "Bearer secret"},
        content=b'{ "name": "widget" }',
    )
    assert (response.status_code, response.content) == (204, b"")
    [record] = kcat_consume(commands)
    assert record.key == ITEM
    assert record.value == '{ "name": "widget" }'
    assert record.headers == [("content-type", "application/json"), ("zilla:identity", "test")]


async def test_delete_item_without_reply_is_a_tombstone(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:  # row 2
    response = await proxy.request("DELETE", f"/items/{ITEM}", content=b"ignored")
    assert response.status_code == 204
    [record] = kcat_consume(commands)
    assert (record.key, record.value, record.headers) == (ITEM, None, [("zilla:identity", "test")])


async def test_a_record_the_broker_rejects_is_400(proxy: Proxy) -> None:  # row 3
    response = await proxy.request("POST", "/compacted", content=b"a compacted topic needs a key")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:kafkaproxy:problem:produce-rejected"
    assert "key" in response.json()["detail"]


async def test_a_route_without_key_makes_records_without_key(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:
    response = await proxy.request("POST", "/events", content=b'{"greeting":"Hello, world"}')
    assert response.status_code == 204
    [record] = kcat_consume(commands)
    assert (record.key, record.value, record.headers) == (None, '{"greeting":"Hello, world"}', [])


async def test_an_empty_body_is_an_empty_value_not_a_tombstone(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:
    await proxy.request("POST", "/events")
    assert [record.value for record in kcat_consume(commands)] == [""]


async def test_the_idempotency_key_becomes_the_key(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:
    await proxy.request("POST", "/items", headers={"Idempotency-Key": "1"}, content=b"a")
    await proxy.request("POST", "/items", content=b"b")
    first, second = kcat_consume(commands)
    assert first.key == "1"
    assert second.key is not None
    assert len(second.key) == 36


async def test_an_override_replaces_the_field_of_its_name(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:  # D6
    await proxy.request("POST", "/typed", headers={"content-type": "text/plain"}, content=b"a")
    [record] = kcat_consume(commands)
    assert record.headers == [("content-type", "application/x-ours")]


async def test_acks_none_is_204_too(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:
    assert (await proxy.request("POST", "/unsure", content=b"x")).status_code == 204
    assert len(kcat_consume(commands)) == 1


async def test_path_parameters_are_percent_decoded(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:
    await proxy.request("PUT", "/items/a%2Fb%20%C3%A9?not=part", content=b"x")
    [record] = kcat_consume(commands)
    assert record.key == "a/b é"


async def test_a_path_that_is_not_utf8_is_400_and_produces_nothing(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:
    assert (await proxy.request("PUT", "/items/%FF", content=b"x")).status_code == 400
    assert kcat_consume(commands) == []


async def test_request_data_is_never_taken_for_an_expression(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:
    await proxy.request("PUT", "/items/$%7Bparams.id%7D$1%5C", content=b"x")
    [record] = kcat_consume(commands)
    assert record.key == "${params.id}$1\\"


async def test_a_record_over_the_topics_limit_is_413(proxy: Proxy) -> None:
    response = await proxy.request("POST", "/small", content=b"x" * 5000)
    assert response.status_code == 413


async def test_a_body_over_the_setting_is_413_and_produces_nothing(proxy: Proxy, commands: str, kcat_consume: Consume) -> None:
    response = await proxy.request("POST", "/events", content=b"x" * (10 * 1024 * 1024 + 1))
    assert response.status_code == 413
    assert kcat_consume(commands) == []


async def test_a_missing_topic_is_503_with_retry_after(proxy: Proxy) -> None:
    response = await proxy.request("POST", "/missing", content=b"x")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["type"] == "urn:kafkaproxy:problem:produce-unknown-topic"


async def test_a_name_that_no_topic_can_have_is_404(proxy: Proxy) -> None:
    assert (await proxy.request("POST", "/to/not%20a%20topic", content=b"x")).status_code == 404


async def test_a_method_the_route_does_not_serve_is_405_with_allow(proxy: Proxy) -> None:  # D3
    response = await proxy.request("GET", "/events")
    assert response.status_code == 405
    assert response.headers["allow"] == "DELETE, PATCH, POST, PUT"


async def test_a_path_of_no_route_belongs_to_the_site(proxy: Proxy) -> None:
    assert (await proxy.request("GET", "/about")).text == "the site"
    assert (await proxy.request("PUT", "/items/a/b")).text == "the site"  # a parameter is one segment (D1)


async def test_the_partition_is_where_java_producers_put_the_key(
    kafka: Cluster, topic: TopicFactory, tmp_path: Path, kcat_consume: Consume
) -> None:
    # Partitions of Java's murmur2 partitioner over 6 partitions, from Kafka's own utils test keys.
    def murmur2(data: bytes) -> int:
        mask, m = 0xFFFFFFFF, 0x5BD1E995
        h = 0x9747B28C ^ len(data)
        for at in range(0, len(data) // 4 * 4, 4):
            k = int.from_bytes(data[at : at + 4], "little") * m & mask
            k = (k ^ k >> 24) * m & mask
            h = h * m & mask ^ k
        tail = data[len(data) // 4 * 4 :]
        if tail:
            h = (h ^ int.from_bytes(tail, "little")) * m & mask
        h = (h ^ h >> 13) * m & mask
        return h ^ h >> 15

    assert murmur2(b"21") == (-973932308) & 0xFFFFFFFF  # the vector of Kafka's UtilsTest
    name = topic(partitions=6)
    proxy = Proxy(tmp_path, configuration(kafka.bootstrap, gateway(produce("/{id}", topic=name, key="${params.id}"))))
    for number in range(20):
        await proxy.request("PUT", f"/key-{number}", content=b"x")
    proxy.close()
    records = kcat_consume(name)
    assert len(records) == 20
    for record in records:
        assert record.key is not None
        assert record.partition == (murmur2(record.key.encode()) & 0x7FFFFFFF) % 6
