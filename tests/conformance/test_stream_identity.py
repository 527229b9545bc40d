"""What a guard knows of a client decides what it sees (``handshake.with.filters.dynamic``, ``handshake.my.stream``)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.conformance.conftest import Begin
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.guarded import EVERYWHERE, bearer
from tests.support.proxy import Proxy, gateway, stream
from tests.support.streams import asgi_stream
from tests.support.tokens import fresh

OWN = {"zilla:identity": "${guarded['g'].identity}"}
OWN_BY_PARAMS = {"key": "${params.key}", "headers": {**OWN, "tag": "${params.tag}"}}
OF_TENANT = {"headers": {"tenant": "${guarded['g'].attributes.tenant}"}}
TENANTS = {"alice": "north", "bob": "south", "mallory": "nowhere"}


@pytest.fixture
def records(topic: TopicFactory) -> str:
    return topic(name="stream", partitions=2)


@pytest.fixture
def suffix(kafka: Cluster) -> Iterator[str]:
    """Make a topic for each client: its name, ``-`` and this."""
    made = uuid.uuid4().hex[:8]
    names = [kafka.create_topic(f"{name}-{made}", 1, None) for name in TENANTS]
    yield made
    kafka.delete_topics(names)


@pytest.fixture
def proxy(begin: Begin, records: str, suffix: str) -> Proxy:
    guarded = {"g": ["read:stream"]}
    routes = [
        stream("/own", topic=records, filters=[{"headers": OWN}], guarded=guarded, name="own"),
        stream("/own/{key}/{tag}", topic=records, filters=[OWN_BY_PARAMS], guarded=guarded, name="dynamic"),
        stream("/tenant", topic=records, filters=[OF_TENANT], guarded=guarded, name="tenant"),
        stream("/my-stream", topic="${guarded['g'].identity}-" + suffix, guarded=guarded, name="mine"),
    ]
    return begin(gateway(*routes, credentials=EVERYWHERE))


def of(name: str) -> dict[str, str]:
    return bearer(fresh(sub=name, tenant=TENANTS[name]))


@pytest.mark.parametrize("path", ["/own", "/own/example-key/example-tag", "/tenant"])
async def test_each_client_gets_its_own_records_and_no_others(proxy: Proxy, kafka: Cluster, records: str, path: str) -> None:
    async with asgi_stream(proxy.app, path, of("alice")) as alice, asgi_stream(proxy.app, path, of("bob")) as bob:
        await alice.more()
        await bob.more()
        kafka.produce(records, "nobody's", key="example-key", headers=[("tag", "example-tag")], partition=0)
        for name in ("bob", "alice", "mallory", "bob", "alice"):
            headers = [("zilla:identity", name), ("tag", "example-tag"), ("tenant", TENANTS[name])]
            kafka.produce(records, f"{name}'s", key="example-key", headers=headers, partition=0)
        assert [event.data for event in await alice.take(2)] == ["alice's"] * 2
        assert [event.data for event in await bob.take(2)] == ["bob's"] * 2
        assert await alice.is_quiet()
        assert await bob.is_quiet(0)
    async with asgi_stream(proxy.app, path, of("mallory")) as stored:  # what is there already is filtered alike
        assert (await stored.next()).data == "mallory's"
        assert await stored.is_quiet()


async def test_each_client_gets_its_own_topic(proxy: Proxy, kafka: Cluster, suffix: str) -> None:
    for name in TENANTS:
        kafka.produce(f"{name}-{suffix}", f"{name}'s")
    async with AsyncExitStack() as stack:
        opening = [stack.enter_async_context(asgi_stream(proxy.app, "/my-stream", of(name))) for name in TENANTS]
        for name, s in zip(TENANTS, await asyncio.gather(*opening), strict=True):
            assert (await s.next()).data == f"{name}'s"
            assert await s.is_quiet(0.2)


async def test_who_a_guard_does_not_know_gets_nothing(proxy: Proxy) -> None:
    for path in ("/own", "/own/example-key/example-tag", "/tenant", "/my-stream"):
        assert (await proxy.request("GET", path)).status_code == 401
        assert (await proxy.request("GET", path, headers=bearer(fresh(scope="other")))).status_code == 403
