"""Sync and async requests whose reply topic never comes to rest: others' replies come all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import Producer

from tests.busy.conftest import Begin, StartProxy, StartService
from tests.busy.watching import answered
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, gateway, produce
from tests.support.service import Asked, Reply, Service, echo
from tests.support.traffic import Flow, Kind, Traffic

ID = "zilla:correlation-id"


class TransactionalService(Service):
    """A service that answers each request in a transaction of its own."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._transactions = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"service-{topic}"})
        self._transactions.init_transactions(60)
        super().__init__(bootstrap, topic, echo)

    def reply(self, asked: Asked, reply: Reply) -> None:
        """Answer, and commit."""
        self._transactions.begin_transaction()
        headers = [*reply.headers, (ID, asked.header(ID))]
        self._transactions.produce(asked.header("zilla:reply-to").decode(), reply.value, asked.key, headers=headers)
        self._transactions.commit_transaction(60)


@dataclass
class Stage:
    """A proxy that started while its reply topic was busy."""

    proxy: Proxy
    service: Service
    traffic: Traffic


StartStage = Callable[..., Stage]


@pytest.fixture
def transactional(kafka: Cluster) -> Iterator[Callable[[str], Service]]:
    running: list[Service] = []

    def start(topic: str) -> Service:
        running.append(TransactionalService(kafka.bootstrap, topic))
        return running[-1]

    yield start
    for each in running:
        each.close()


@pytest.fixture
def stage(
    kafka: Cluster,
    topic: TopicFactory,
    start: StartProxy,
    begin: Begin,
    service: StartService,
    transactional: Callable[[str], Service],
) -> StartStage:
    def make(rate: float, *kinds: Kind, partitions: int = 3, in_transactions: bool = False) -> Stage:
        requests, replies = topic(name="requests"), topic(name="replies", partitions=partitions)
        traffic = begin(*(Flow(topic=replies, rate=rate, kind=kind, id_header=ID) for kind in kinds))
        both = {"topic": requests, "reply_to": replies}
        routes = gateway(
            produce("POST /sync", name="sync", **both),
            produce("POST /async", name="async", async_={"location": "/async;cid=${correlationId}"}, **both),
        )
        answering = (transactional if in_transactions else service)(requests)
        return Stage(start(configuration(kafka.bootstrap, routes)), answering, traffic)

    return make


STAGES = [
    pytest.param((20, Kind.PLAIN), {"partitions": 1}, id="20"),
    pytest.param((1_000, Kind.PLAIN), {"partitions": 1}, id="1000"),
    pytest.param((1_000, Kind.PLAIN), {"partitions": 12}, id="1000 on 12 partitions"),
    pytest.param((1_000, Kind.COMMITTED, Kind.ABORTED), {}, id="1000 in transactions"),
    pytest.param((1_000, Kind.PLAIN), {"in_transactions": True}, id="1000, service in transactions"),
    pytest.param((20, Kind.COMMITTED), {"partitions": 1, "in_transactions": True}, id="20, all in transactions"),
    pytest.param((20_000, Kind.PLAIN), {}, id="20000"),
]


@pytest.mark.parametrize(("flows", "options"), STAGES)
async def test_requests_are_answered_amid_the_replies_of_others(
    stage: StartStage, flows: tuple[float, Kind], options: dict[str, int]
) -> None:
    amid = stage(*flows, **options)
    await answered(amid.proxy, "/sync", b"first")
    # Sync, one after the other and at once.
    for number in range(10):
        assert (await answered(amid.proxy, "/sync", b"%d" % number)).status_code == 200
    await asyncio.gather(*(answered(amid.proxy, "/sync", b"at once %d" % number) for number in range(20)))
    # Async.
    for number in range(5):
        body = b"later %d" % number
        accepted = await amid.proxy.request("POST", "/async", content=body, headers={"prefer": "respond-async"})
        assert accepted.status_code == 202
        answer = await amid.proxy.request("GET", accepted.headers["location"], headers={"prefer": "wait=60"})
        assert (answer.status_code, answer.content) == (200, body)
    # With a key: the second time, and at another route, it is the reply that is there.
    for number in range(5):
        asked = len(amid.service.asked)
        for _ in range(2):
            await answered(amid.proxy, "/sync", b"once %d" % number, idempotency_key=f"key-{number}")
        assert len(amid.service.asked) == asked + 1
    await asyncio.to_thread(amid.traffic.goes_on)


async def test_a_reply_that_came_before_the_start_is_found_amid_others(
    kafka: Cluster, stage: StartStage, start: StartProxy
) -> None:
    amid = stage(1_000, Kind.PLAIN)
    await answered(amid.proxy, "/sync", b"before", idempotency_key="kept")
    config = amid.proxy.runtime.table
    assert config is not None
    another = start(config.configuration, "another host")
    amid.service.answer = lambda _asked: None
    await answered(another, "/sync", b"before", idempotency_key="kept")
    assert len(amid.service.asked) == 1
