"""The configuration changes while requests run: what is under way finishes, what comes later is served by the new one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from kafkaproxy.routing.table import Configuration
from kafkaproxy.worker.types import Role, TopicSettings
from tests.conftest import TopicFactory
from tests.faults.asking import get, items, unique, until_body, until_put
from tests.faults.conftest import StartProxy
from tests.kafka import Broker, Cluster
from tests.support.proxy import Proxy, configuration, gateway, produce


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another thread's doing
            await asyncio.sleep(0.02)


def reload(proxy: Proxy, kafka: Cluster, topic: str, client_id: str) -> None:
    """Change the options of the cluster, as a change of the password does."""
    proxy.runtime.configure(configuration(kafka.bootstrap, items(topic), **{"client.id": client_id}))


async def test_no_request_fails_while_the_cluster_changes(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic(name="reload-under-load")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_put(proxy, "/items/0", b"0")
    statuses: list[int] = []
    written: list[str] = []
    stopped = asyncio.Event()

    async def use(number: int) -> None:
        while not stopped.is_set():
            value = f'"{number}-{len(written)}"'
            response = await proxy.request("PUT", f"/items/{number}", content=value.encode())
            statuses.append(response.status_code)
            written.append(value)
            statuses.extend([(await get(proxy, path)).status_code for path in (f"/items/{number}", "/items")])

    users = [asyncio.create_task(use(number)) for number in range(4)]
    for number in range(4):
        seen = len(statuses)
        await until(lambda seen=seen: len(statuses) > seen + 20)  # type: ignore[misc]
        await asyncio.to_thread(reload, proxy, kafka, name, f"client-{number}")
    stopped.set()
    await asyncio.gather(*users)
    assert set(statuses) == {200, 204}
    stored = [str(record.value) for record in kafka.consume(name)]
    assert sorted(stored) == sorted(["0", *written])


async def test_who_waits_for_a_change_gets_it_from_the_successor(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="reload-while-waiting")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_put(proxy, "/items/a", b"1")
    etag = (await until_body(proxy, "/items/a", b"1")).headers["etag"]
    waiting = [
        asyncio.create_task(get(proxy, "/items/a", if_none_match=etag, prefer="wait=60")),
        asyncio.create_task(get(proxy, "/items/b", prefer="wait=60")),
        asyncio.create_task(get(proxy, "/items", if_none_match='"none"', prefer="wait=60")),
    ]
    merged: httpx.Response = await waiting.pop()
    assert merged.content == b"[1]"
    await until(lambda: proxy.runtime.worker.waiting == 2)
    await asyncio.to_thread(reload, proxy, kafka, name, "other")
    await until_put(proxy, "/items/b", b"2")
    await until_put(proxy, "/items/a", b"3")
    assert [response.content for response in await asyncio.gather(*waiting)] == [b"3", b"2"]


async def test_a_record_that_was_handed_over_is_acknowledged_on_the_old_connection(
    broken_kafka: Broker, start: StartProxy
) -> None:
    name = broken_kafka.create_topic(unique("reload-in-flight"))
    proxy = start(configuration(broken_kafka.bootstrap, items(name)))
    await until_put(proxy, "/items/a", b"1")
    broken_kafka.pause()
    in_flight = asyncio.create_task(proxy.request("PUT", "/items/a", content=b"2"))
    old = proxy.runtime.worker.cluster("default")
    await until(lambda: any(producer.queued() for producer in old._producers.values()))
    await asyncio.to_thread(reload, proxy, broken_kafka, name, "other")
    assert proxy.runtime.worker.cluster("default") is not old
    broken_kafka.resume()
    assert (await in_flight).status_code == 204
    await until_body(proxy, "/items/a", b"2")


async def test_a_cluster_that_is_removed_answers_who_waits_there(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="reload-removed")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert (await get(proxy, "/items/a")).status_code == 404
    waiting = asyncio.create_task(get(proxy, "/items/a", prefer="wait=2"))
    await until(lambda: proxy.runtime.worker.waiting == 1)
    await asyncio.to_thread(proxy.runtime.configure, configuration(kafka.bootstrap))
    assert (await get(proxy, "/items/a")).status_code == 299  # the wrapped site's: no route is left
    assert (await waiting).status_code == 404


async def test_a_topic_that_is_read_for_more_than_before_is_never_half_served(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="reload-roles")
    kafka.produce_many(name, [{"value": str(number), "key": str(number)} for number in range(3000)])
    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert len((await get(proxy, "/items")).json()) == 3000
    answers = gateway(produce("POST /calls", topic=name, reply_to=name, name="call"), name="calls")
    proxy.runtime.configure(configuration(kafka.bootstrap, items(name), answers))
    for _ in range(100):
        one, every = await get(proxy, "/items/2999"), await get(proxy, "/items")
        assert (one.status_code, one.content) == (200, b"2999")
        assert len(every.json()) == 3000


async def test_a_topic_that_is_compacted_no_longer_shows_every_record_again(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="reload-policy")
    kafka.produce_many(name, [{"value": str(number), "key": "a"} for number in range(5)])

    def tuned(policy: str) -> Configuration:
        tuning = {name: TopicSettings(roles=frozenset({Role.FETCH}), cleanup_policy=policy)}
        return configuration(kafka.bootstrap, items(name), topics=tuning)

    proxy = start(tuned("compact"))
    assert (await get(proxy, "/items")).content == b"[4]"  # and the store let the others go
    proxy.runtime.configure(tuned("delete"))
    await until_body(proxy, "/items", b"[0,1,2,3,4]")
    proxy.runtime.configure(tuned("compact"))
    await until_body(proxy, "/items", b"[4]")
