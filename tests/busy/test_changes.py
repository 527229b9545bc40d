"""What is served goes on being served while roles, partitions and topics change under traffic."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping

import pytest

from kafkaproxy.routing.table import Configuration, Route
from tests.busy.conftest import Begin, StartProxy, StartService
from tests.busy.watching import Answers, answered, asking, moves_past, opened
from tests.conftest import TopicFactory
from tests.faults.asking import get, items, until, until_body, until_status
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce, stream
from tests.support.streams import asgi_stream
from tests.support.traffic import Flow, Kind, Traffic
from tests.support.watchdog import read_to_end

pytestmark = pytest.mark.usefixtures("impatient")

KEYS = 20
RATES = [20, 1_000]


def one(topic: str) -> Route:
    return fetch("GET /items/{id}", topic=topic, filters=[{"key": "${params.id}"}], name="one")


async def change(proxy: Proxy, config: Configuration) -> None:
    """Take over a configuration, off the loop, as the thread that follows the database does."""
    await asyncio.to_thread(proxy.runtime.configure, config)


async def until_it_moves(traffic: Traffic, flow: Flow, watched: Iterable[Answers]) -> None:
    """Wait until the clients were answered with more than what Kafka has now."""
    now = await asyncio.to_thread(traffic.last_now, flow)
    for each in watched:
        await moves_past(each, now.get("k1", 0))


async def until_ends_move(kafka: Cluster, topic: str) -> None:
    """Wait until every partition has received more."""
    before = await asyncio.to_thread(kafka.ends, topic)
    async with asyncio.timeout(60):
        while any(end <= before[each] for each, end in (await asyncio.to_thread(kafka.ends, topic)).items()):
            pass


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("config", [{}, {"cleanup.policy": "compact"}], ids=["kept", "compacted"])
async def test_a_fetched_topic_gets_a_stream_and_is_served_all_the_time(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int, config: Mapping[str, str]
) -> None:
    flow = Flow(topic=topic(name="gains-stream", config=dict(config)), rate=rate, keys=KEYS)
    traffic = begin(flow)
    proxy = start(configuration(kafka.bootstrap, gateway(one(flow.topic))))
    await until_status(proxy, "/items/k1", 200)
    async with asking(proxy, ["/items/k1"]) as watched:
        await until_it_moves(traffic, flow, watched)
        await change(proxy, configuration(kafka.bootstrap, gateway(one(flow.topic), stream("/stream", topic=flow.topic))))
        async with opened(proxy, "/stream") as s:
            events = await s.take(20)
            await until_it_moves(traffic, flow, watched)
            await asyncio.to_thread(traffic.stop)
            events += await read_to_end(s, kafka, flow.topic)
    numbers = [int(event.data) for event in events]
    assert len(set(numbers)) == len(numbers)
    if not config:  # of a compacted topic, Kafka may have removed some
        assert sorted(numbers) == list(range(1, traffic.acknowledged(flow) + 1))


@pytest.mark.parametrize("rate", RATES)
async def test_a_streamed_topic_gets_a_fetch_and_its_streams_go_on(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int
) -> None:
    flow = Flow(topic=topic(name="gains-fetch"), rate=rate, keys=KEYS)
    traffic = begin(flow)
    only = stream("/stream", topic=flow.topic)
    proxy = start(configuration(kafka.bootstrap, gateway(only)))
    async with opened(proxy, "/stream") as s:
        events = await s.take(20)
        await change(proxy, configuration(kafka.bootstrap, gateway(only, one(flow.topic))))
        floor = traffic.last(flow).get("k1", 0)
        await until(proxy, "/items/k1", lambda response: response.status_code == 200 and int(response.content) >= floor)
        async with asking(proxy, ["/items/k1"]) as watched:
            await until_it_moves(traffic, flow, watched)
        await asyncio.to_thread(traffic.stop)
        events += await read_to_end(s, kafka, flow.topic)
    assert sorted(int(event.data) for event in events) == list(range(1, traffic.acknowledged(flow) + 1))


@pytest.mark.parametrize("rate", RATES)
async def test_a_topic_in_use_becomes_a_reply_topic_and_is_served_all_the_time(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, service: StartService, rate: int
) -> None:
    flow = Flow(topic=topic(name="gains-reply"), rate=rate, keys=KEYS, id_header="zilla:correlation-id")
    requests = topic(name="requests")
    service(requests)
    traffic = begin(flow)
    proxy = start(configuration(kafka.bootstrap, gateway(one(flow.topic))))
    await until_status(proxy, "/items/k1", 200)
    sync = produce("POST /ask", topic=requests, reply_to=flow.topic, name="ask")
    async with asking(proxy, ["/items/k1"]) as watched:
        await change(proxy, configuration(kafka.bootstrap, gateway(one(flow.topic), sync)))
        for number in range(5):
            await answered(proxy, "/ask", b"%d" % number)
        await until_it_moves(traffic, flow, watched)


@pytest.mark.parametrize("kind", [Kind.PLAIN, Kind.COMMITTED])
async def test_a_busy_topic_that_a_new_route_names_is_served(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, kind: Kind
) -> None:
    flows = [Flow(topic=topic(name=name, partitions=3), rate=500, keys=KEYS, kind=kind) for name in ("served", "new")]
    traffic = begin(*flows)
    served, new = flows
    proxy = start(configuration(kafka.bootstrap, gateway(one(served.topic))))
    await until_status(proxy, "/items/k1", 200)
    async with asking(proxy, ["/items/k1"]) as watched:
        routes = gateway(one(served.topic), fetch("GET /new/{id}", topic=new.topic, filters=[{"key": "${params.id}"}]))
        floor = traffic.last(new).get("k1", 0)
        await change(proxy, configuration(kafka.bootstrap, routes))
        assert int((await until_status(proxy, "/new/k1", 200)).content) >= floor
        await until_it_moves(traffic, served, watched)


@pytest.mark.parametrize("rate", RATES)
async def test_partitions_are_added_and_what_is_served_goes_on(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int
) -> None:
    name = topic(name="grows")
    flow = Flow(topic=name, rate=rate, keys=KEYS)
    traffic = begin(flow)
    proxy = start(configuration(kafka.bootstrap, gateway(*items(name).entries[0].routes, stream("/stream", topic=name))))
    await until_status(proxy, "/items/k1", 200)
    async with asking(proxy, ["/items/k1"]) as watched, asgi_stream(proxy.app, "/stream") as s:
        assert s.status == 200
        events = await s.take(10)
        await asyncio.to_thread(kafka.add_partitions, name, 6)
        for partition in range(6):
            await asyncio.to_thread(kafka.produce, name, f'"{partition}"', key=f"new-{partition}", partition=partition)
        for partition in range(6):
            await until_body(proxy, f"/items/new-{partition}", b'"%d"' % partition)
        await until_it_moves(traffic, flow, watched)
        await until_ends_move(kafka, name)  # the producer has found the new partitions
        await asyncio.to_thread(traffic.stop)
        events += await read_to_end(s, kafka, name)
    numbers = [int(event.data) for event in events if not event.data.startswith('"')]
    assert sorted(numbers) == list(range(1, traffic.acknowledged(flow) + 1))


@pytest.mark.parametrize("rate", RATES)
async def test_a_topic_is_created_again_while_its_producers_go_on(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int
) -> None:
    name = topic(name="recreated")
    kafka.produce(name, '"old"', key="old", partition=0)
    flow = Flow(topic=name, rate=rate, keys=KEYS)
    traffic = begin(flow)
    proxy = start(configuration(kafka.bootstrap, gateway(*items(name).entries[0].routes, stream("/stream", topic=name))))
    assert (await until_status(proxy, "/items/old", 200)).content == b'"old"'
    await asyncio.to_thread(kafka.delete_topics, [name])
    old = traffic.acknowledged(flow)
    await asyncio.to_thread(kafka.create_topic, name, 3)
    kafka.produce(name, '"new"', key="new", partition=0)
    await until_body(proxy, "/items/new", b'"new"')
    assert (await get(proxy, "/items/old")).status_code == 404
    await until(proxy, "/items/k1", lambda response: response.status_code == 200 and int(response.content) > old)
    merged = json.loads((await get(proxy, "/items")).content)
    merged.remove("new")
    assert min(merged) > old
    async with asgi_stream(proxy.app, "/stream") as s:
        assert s.status == 200
        data = [event.data for event in await s.take(20)]
        assert '"old"' not in data
        assert all(int(each) > old for each in data if each != '"new"')
    traffic.goes_on()


@pytest.mark.parametrize("rate", RATES)
async def test_retention_removes_records_while_others_come(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int
) -> None:
    name = topic(name="trimmed")
    flow = Flow(topic=name, rate=rate, keys=10)
    traffic = begin(flow)
    proxy = start(configuration(kafka.bootstrap, gateway(*items(name).entries[0].routes, stream("/stream", topic=name))))
    await until_status(proxy, "/items/k1", 200)
    async with asking(proxy, ["/items/k1"]) as watched:
        async with asgi_stream(proxy.app, "/stream") as s:
            first = await s.next()
        # Number n is at offset n - 1.
        for removed in (rate // 2, rate):
            await asyncio.to_thread(traffic.wait_for, flow, removed + 20)
            await asyncio.to_thread(kafka.delete_records, name, {0: removed})
            merged = await until(proxy, "/items", lambda each, n=removed: each.json()[:1] == [n + 1])  # type: ignore[misc]
            numbers = merged.json()
            assert numbers == list(range(removed + 1, removed + 1 + len(numbers)))
        async with asgi_stream(proxy.app, "/stream", {"last-event-id": first.id}) as s:
            assert s.status == 200
            gap, *after = await s.take(6)
            assert gap.type == "gap"
            assert [int(event.data) for event in after] == list(range(rate + 1, rate + 6))
        await until_it_moves(traffic, flow, watched)
