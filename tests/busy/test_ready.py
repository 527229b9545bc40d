"""A topic that keeps receiving records is served as soon as what was there at the start has been read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from kafkaproxy.routing.table import Configuration
from tests.busy.conftest import Begin, StartProxy
from tests.conftest import TopicFactory
from tests.faults.asking import until_status
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, stream
from tests.support.streams import asgi_stream
from tests.support.traffic import Flow, Kind, Traffic

KEYS = 50
COMPACTED: Mapping[str, str] = {"cleanup.policy": "compact", "segment.ms": "500", "min.cleanable.dirty.ratio": "0.01"}
CONFIGS: Mapping[str, tuple[Kind, Mapping[str, str]]] = {
    "plain": (Kind.PLAIN, {}),
    "compacted": (Kind.PLAIN, COMPACTED),
    "committed": (Kind.COMMITTED, {}),
    "aborted": (Kind.ABORTED, {}),
    "open": (Kind.OPEN, {}),
}
MakeFlow = Callable[[str, float, int], Flow]


@pytest.fixture
def flow(kafka: Cluster, topic: TopicFactory) -> MakeFlow:
    """Make a flow to a new topic, where every key has the value 0: ``flow(name of CONFIGS, rate, partitions)``."""

    def make(name: str, rate: float, partitions: int) -> Flow:
        kind, config = CONFIGS[name]
        created = topic(name=name, partitions=partitions, config=dict(config))
        kafka.produce_many(created, [{"key": f"k{number}", "value": "0"} for number in range(KEYS)])
        return Flow(topic=created, rate=rate, kind=kind, keys=KEYS, partitions=partitions)

    return make


@dataclass
class Stage:
    """Proxies that start, again and again, while flows go on: one for each flow, as one consumer of several busy topics gets
    empty answers for some of them all the time.
    """

    kafka: Cluster
    start: StartProxy
    traffic: Traffic
    flows: list[Flow]

    async def starts(self) -> list[Proxy]:
        """Start, and check that every topic is served, none of them with less than was there at the start."""
        floors = [self.traffic.last(flow) for flow in self.flows]
        proxies = [self.start(self._configuration(flow.topic), flow.topic) for flow in self.flows]
        await asyncio.gather(*(self.is_served(*each) for each in zip(proxies, self.flows, floors, strict=True)))
        await asyncio.to_thread(self.traffic.goes_on)
        return proxies

    async def is_served(self, proxy: Proxy, flow: Flow, floor: Mapping[str, int]) -> None:
        """Check what a fetch and a stream show of a topic, as soon as it is served."""
        served = await until_status(proxy, f"/{flow.topic}/k1", 200)
        if flow.kind in (Kind.ABORTED, Kind.OPEN):
            assert served.content == b"0"  # no reader of committed records sees more
        else:
            assert int(served.content) >= floor.get("k1", 0)
        async with asgi_stream(proxy.app, f"/{flow.topic}") as s:
            assert s.status == 200
            event = await s.next()
            assert event.type == "message"
            assert int(event.data) >= 0

    def _configuration(self, topic: str) -> Configuration:
        routes = (
            fetch(f"GET /{topic}/{{id}}", topic=topic, filters=[{"key": "${params.id}"}]),
            stream(f"GET /{topic}", topic=topic),
        )
        return configuration(self.kafka.bootstrap, gateway(*routes))


def stage(kafka: Cluster, start: StartProxy, begin: Begin, flows: list[Flow]) -> Stage:
    """Begin flows and wait until each has sent records for a while: a process starts amid traffic, not with it."""
    traffic = begin(*flows)
    for each in flows:
        traffic.wait_for(each, max(5, int(each.rate / 4)))
    return Stage(kafka, start, traffic, flows)


@pytest.mark.parametrize("rate", [20, 1_000])
async def test_topics_are_served_after_a_start_though_traffic_never_pauses(
    kafka: Cluster, start: StartProxy, begin: Begin, flow: MakeFlow, rate: int
) -> None:
    amid = stage(kafka, start, begin, [flow(name, rate, partitions) for name in CONFIGS for partitions in (1, 12)])
    for proxy in await amid.starts():
        proxy.close()
    await amid.starts()  # with stores that lag behind


@pytest.mark.parametrize("partitions", [1, 12])
@pytest.mark.parametrize("name", CONFIGS)
async def test_a_topic_is_served_after_a_start_amid_twenty_thousand_records_a_second(
    kafka: Cluster, start: StartProxy, begin: Begin, flow: MakeFlow, name: str, partitions: int
) -> None:
    amid = stage(kafka, start, begin, [flow(name, 20_000, partitions)])
    for proxy in await amid.starts():
        proxy.close()
    await amid.starts()


async def test_a_topic_that_only_a_request_names_is_served_amid_traffic(
    kafka: Cluster, start: StartProxy, begin: Begin, flow: MakeFlow
) -> None:
    flows = [flow(name, 200, 1) for name in CONFIGS]
    amid = stage(kafka, start, begin, flows)
    routes = [
        fetch("GET /{topic}/{id}", topic="${params.topic}", filters=[{"key": "${params.id}"}]),
        stream("GET /{topic}", topic="${params.topic}"),
    ]
    proxy = start(configuration(kafka.bootstrap, gateway(*routes)))
    floors = [amid.traffic.last(each) for each in flows]
    await asyncio.gather(*(amid.is_served(proxy, *each) for each in zip(flows, floors, strict=True)))
    amid.traffic.goes_on()


async def test_what_an_open_transaction_hid_is_served_when_it_ends(
    kafka: Cluster, start: StartProxy, begin: Begin, flow: MakeFlow
) -> None:
    hidden = flow("open", 1_000, 1)
    amid = stage(kafka, start, begin, [hidden])
    (proxy,) = await amid.starts()
    async with asgi_stream(proxy.app, f"/{hidden.topic}") as s:
        assert {event.data for event in await s.take(KEYS)} == {"0"}
        await asyncio.to_thread(amid.traffic.stop)
        sent = amid.traffic.acknowledged(hidden)
        assert [int(event.data) for event in await s.take(sent)] == list(range(1, sent + 1))
    served = await until_status(proxy, f"/{hidden.topic}/k1", 200)
    assert int(served.content) == amid.traffic.last(hidden)["k1"]
