"""What a request waits for before there is a reply, how long, and what it holds on to meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kafkaproxy.routing.table import Route
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.ingest.reading import Reading
from kafkaproxy.worker.kafka.offsets import LogOffsets
from kafkaproxy.worker.types import Role
from tests.conformance.conftest import StartProxy
from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.support.exchange import Exchange, assert_nobody_waits, until, until_ready
from tests.support.proxy import CLUSTER, Proxy, configuration, gateway, produce

Consume = Callable[[str], list[Consumed]]
Limit = Callable[..., None]
LOCATION = "/items/${params.id};cid=${correlationId}"
ASYNC = ("prefer", "respond-async")
KEY = ("idempotency-key", "a-key")
CORRELATION = "zilla:correlation-id"


@pytest.fixture
def limit(settings: Any) -> Limit:
    def limit(**values: Any) -> None:
        settings.KAFKAPROXY = {**settings.KAFKAPROXY, **values}

    return limit


@pytest.fixture
def names(topic: TopicFactory) -> tuple[str, str]:
    return topic(name="requests"), topic(2, name="replies")


@pytest.fixture
def route(names: tuple[str, str]) -> Route:
    return produce("/items/{id}", topic=names[0], reply_to=names[1], async_={"location": LOCATION}, timeout=60)


@pytest.fixture
def silence() -> Iterator[str]:
    """A broker that accepts connections and says nothing: a topic of it is being read for the first time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def ask(proxy: Proxy, *fields: tuple[str, str], path: str = "/items/1", body: bytes | None = b"x") -> Exchange:
    """PUT, or GET a location; without a body it does not come to an end."""
    asked = Exchange(proxy.app, "GET" if ";" in path else "PUT", path, fields)
    if body is not None:
        asked.send(body)
    return asked


async def ended(asked: Exchange) -> Exchange:
    await asked.end()
    return asked


async def location_from(proxy: Proxy, *fields: tuple[str, str]) -> str:
    accepted = await ended(ask(proxy, ASYNC, *fields))
    assert accepted.status == 202
    return dict(accepted.fields)[b"location"].decode()


async def test_a_request_that_waits_does_not_keep_its_body(
    start: StartProxy, kafka: Cluster, route: Route, names: tuple[str, str]
) -> None:
    proxy, size, count = start(route), 500_000, 20
    await until_ready(proxy, names[1])
    cluster = proxy.runtime.worker.cluster(CLUSTER)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        waiting = [ask(proxy, *keys, body=b"x" * size) for keys in ((), (KEY,)) for _ in range(count)]
        await until(lambda: proxy.runtime.worker.waiting == 2 * count)
        await until(lambda: len(kafka.consume(names[0])) == count + 1)
        await until(lambda: not any(each.queued() for each in cluster._producers.values()))
        # Kafka has them; the requests do not know yet, as they wait for something else.
        await until(lambda: tracemalloc.get_traced_memory()[0] - before < 3 * size)
    finally:
        tracemalloc.stop()
    assert [each.messages for each in waiting] == [[]] * 2 * count
    for each in waiting:
        each.hang_up()
        await each.end()


async def test_who_waits_for_a_reply_topic_to_be_read_counts_and_is_watched(
    start: StartProxy, kafka: Cluster, route: Route, silence: str, limit: Limit
) -> None:
    location = await location_from(start(route))
    limit(MAX_WAITING_REQUESTS=4, READY_TIMEOUT_SECONDS=30)
    cold = start(config=configuration(silence, gateway(route)), folder="cold")
    waiting = [
        *(ask(cold, ASYNC), ask(cold, ASYNC, KEY)),
        *(ask(cold, path=location), ask(cold, ("prefer", "wait=20"), path=location)),
    ]
    await until(lambda: cold.runtime.worker.waiting == 4)
    refused = [
        *(ask(cold, ASYNC), ask(cold, path=location), ask(cold, ("prefer", "wait=20"), path=location)),
        *(ask(cold, body=None), ask(cold, ASYNC, KEY, body=None)),  # before their bodies are read
    ]
    for each in refused:
        await each.end()
        assert (each.status, b"too-many-waiting" in each.body) == (503, True)
    for each in waiting:
        each.hang_up()
        await each.end()
        assert each.messages == []
    assert_nobody_waits(cold)


@pytest.mark.parametrize("polls", [False, True], ids=["request", "poll"])
async def test_a_wait_that_ends_before_the_reply_topic_was_read_is_503(
    polls: bool, start: StartProxy, route: Route, silence: str, limit: Limit
) -> None:
    path = await location_from(start(route)) if polls else "/items/1"
    limit(READY_TIMEOUT_SECONDS=30)
    cold = start(config=configuration(silence, gateway(route)), folder="cold")
    answer = await ended(ask(cold, ("prefer", "wait=1"), path=path))
    assert (answer.status, b"topic-not-read-yet" in answer.body) == (503, True)
    assert dict(answer.fields)[b"retry-after"] == b"1"
    assert_nobody_waits(cold)


@pytest.mark.parametrize("fields", [(KEY,), (KEY, ASYNC)], ids=["sync", "async"])
async def test_nothing_is_produced_for_a_client_that_leaves_while_kafka_is_asked_for_its_reply(
    fields: tuple[tuple[str, str], ...],
    start: StartProxy,
    route: Route,
    names: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    kcat_consume: Consume,
) -> None:  # row 10
    proxy = start(route)
    await until_ready(proxy, names[1])
    asked = asyncio.Event()

    async def hang(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(LogOffsets, "ends", hang)
    leaving = ask(proxy, *fields)
    await asyncio.wait_for(asked.wait(), 30)
    assert proxy.runtime.worker.waiting == 1
    leaving.hang_up()
    await leaving.end()
    assert leaving.messages == []
    assert_nobody_waits(proxy)
    assert kcat_consume(names[0]) == []


async def test_a_reply_that_comes_before_its_request_is_acknowledged_is_not_missed(
    start: StartProxy, kafka: Cluster, route: Route, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = start(route)
    await until_ready(proxy, names[1])
    produced = ClusterWorker.send

    def answered_at_once(cluster: ClusterWorker, *record: Any, **options: Any) -> Any:
        correlation = dict(record[-1])[CORRELATION]
        kafka.produce(names[1], "at once", headers=[(CORRELATION, correlation)])
        state = cluster.topic(names[1], Role.REPLY)
        assert state is not None
        deadline = time.monotonic() + 30
        while cluster.store.reply(state.key, correlation) is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        cluster.hub()._advance()  # waiters that are there by now get what is in the store by now
        return produced(cluster, *record, **options)

    monkeypatch.setattr(ClusterWorker, "send", answered_at_once)
    answer = await ended(ask(proxy, ("prefer", "wait=5")))
    assert (answer.status, answer.body) == (200, b"at once")


async def test_a_reply_that_comes_while_an_instance_first_reads_the_topic_is_found(
    start: StartProxy,
    kafka: Cluster,
    route: Route,
    names: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    kcat_consume: Consume,
) -> None:
    location = await location_from(start(route), KEY)
    [record] = kcat_consume(names[0])
    begins, go_on = threading.Event(), threading.Event()
    read = Reading.read_partitions

    def held_up(reading: Reading, *arguments: Any) -> None:
        begins.set()
        go_on.wait(30)
        read(reading, *arguments)

    monkeypatch.setattr(Reading, "read_partitions", held_up)
    fresh = start(route, folder="fresh")
    asking = [ask(fresh, KEY), ask(fresh, path=location), ask(fresh, ("prefer", "wait=20"), path=location)]
    await until(lambda: begins.is_set() and fresh.runtime.worker.waiting == 3)
    kafka.produce(names[1], "meanwhile", headers=[(CORRELATION, record.header(CORRELATION))])
    assert [each.messages for each in asking] == [[]] * 3
    go_on.set()
    answers = [(await ended(each)).status for each in asking]
    assert answers in ([200, 200, 200], [200, 202, 200])  # a poll that does not wait may be told that it is not there yet
    assert asking[0].body == asking[2].body == b"meanwhile"
    assert len(kcat_consume(names[0])) == 1


async def test_a_reply_in_a_partition_that_is_new_is_found(
    start: StartProxy,
    kafka: Cluster,
    route: Route,
    names: tuple[str, str],
    limit: Limit,
    kcat_consume: Consume,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit(METADATA_SECONDS=60, RETENTION_SECONDS=60)
    monkeypatch.setattr("kafkaproxy.worker.kafka.offsets._COUNT_SECONDS", 0.0)
    proxy = start(route)
    assert (await ended(ask(proxy, KEY, ASYNC))).status == 202
    [record] = kcat_consume(names[0])
    kafka.add_partitions(names[1], 3)
    kafka.produce(names[1], "in the new one", headers=[(CORRELATION, record.header(CORRELATION))], partition=2)
    answer = await ended(ask(proxy, KEY))
    assert (answer.status, answer.body) == (200, b"in the new one")
    assert len(kcat_consume(names[0])) == 1


async def test_the_setting_cuts_a_routes_timeout(start: StartProxy, route: Route, names: tuple[str, str], limit: Limit) -> None:
    limit(MAX_WAIT_SECONDS=1)
    proxy = start(route)
    await until_ready(proxy, names[1])
    answer = await ended(ask(proxy))
    assert (answer.status, b"within 1 seconds" in answer.body) == (504, True)


async def test_a_longest_wait_of_less_than_a_second_still_turns_into_202(
    start: StartProxy, route: Route, names: tuple[str, str], limit: Limit
) -> None:
    limit(MAX_WAIT_SECONDS=0.5)
    proxy = start(route)
    await until_ready(proxy, names[1])
    answer = await ended(ask(proxy, ("prefer", "wait=5")))
    assert answer.status == 202
    assert dict(answer.fields)[b"preference-applied"] == b"wait=1"
