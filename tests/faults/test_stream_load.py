"""Producers at full speed, streams that come and go: every record once, in order, to every stream that asked for it.

Streams with different filters connect, disconnect and resume at random, at either of two instances with stores of their own.
What they were delivered is compared with what ``kcat`` finds in the topic.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from kafkaproxy.core.eventids import parse_event_id
from kafkaproxy.routing.table import Configuration
from kafkaproxy.worker.types import Role, TopicSettings
from tests.conftest import TopicFactory
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster, Consumed
from tests.support.exchange import until
from tests.support.proxy import Proxy, configuration, fetch, gateway, stream
from tests.support.streams import Event, EventStream, asgi_stream
from tests.support.watchdog import watch

PARTITIONS = 4
KEYS = 7
RECORDS = 20_000
"""What producers send, as fast as they can, before they are stopped."""


def routes(kafka: Cluster, topic: str, store_bytes: int | None) -> Configuration:
    by_parity = [{"headers": {"parity": "${params.parity}"}}]
    served = gateway(
        stream("/all", topic=topic, name="all"),
        stream("/keyed", topic=topic, event_id_key=True, name="keyed"),
        stream("/of/{key}", topic=topic, filters=[{"key": "${params.key}"}], name="of"),
        stream("/parity/{parity}", topic=topic, filters=by_parity, name="parity"),
        fetch("GET /one/{topic}", topic="${params.topic}", filters=[{"key": "k0"}], name="one"),
    )
    settings = {topic: TopicSettings(roles=frozenset({Role.STREAM}), store_bytes=store_bytes)}
    return configuration(kafka.bootstrap, served, topics=settings)


class Producers:
    """Threads that produce as fast as they can, until told to stop; ``sent`` is how many records Kafka has."""

    def __init__(self, kafka: Cluster, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self.sent = [0, 0]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(2)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, producer: int) -> None:
        rng = random.Random(producer)
        number = 0
        while not self._stop.is_set():
            batch = []
            for _ in range(rng.choice((1, 5, 200))):
                number += 1
                headers = [("parity", "odd" if number % 2 else "even")]
                value = f"{producer}-{number}" + "x" * rng.randrange(200)
                key = f"k{rng.randrange(KEYS)}"
                batch.append({"value": value, "key": key, "headers": headers, "partition": rng.randrange(PARTITIONS)})
            self._kafka.produce_many(self._topic, batch)
            self.sent[producer] = number
            time.sleep(rng.random() / 50)


@dataclass
class Client:
    """One client over many connections."""

    path: str
    wants: Callable[[Consumed], bool]
    rng: random.Random
    seen: list[Event] = field(default_factory=list)
    position: dict[int, int] = field(default_factory=dict)
    last: str | None = None
    connections: int = 0

    async def run(self, instances: list[Proxy], goal: asyncio.Future[dict[int, int]]) -> None:
        """Come and go until everything up to the goal was delivered."""
        while not self._is_done(goal):
            instance = self.rng.choice(instances)
            headers = {} if self.last is None else {"last-event-id": self.last}
            async with asgi_stream(instance.app, self.path, headers, unread=self.rng.choice((1, 50))) as s:
                assert s.status == 200
                self.connections += 1
                await self._read(s, self.rng.expovariate(1 / 300), goal)

    async def _read(self, s: EventStream, events: float, goal: asyncio.Future[dict[int, int]]) -> None:
        stays = goal.done()
        while (stays or events > 0) and not self._is_done(goal) and await s.more():
            came = s.arrived()
            events -= len(came)
            self.seen += came
            self._move(s.last_event_id)
            if self.rng.random() < 0.05:
                await asyncio.sleep(self.rng.random() / 5)

    def _move(self, last: str) -> None:
        if last and last != self.last:
            position = parse_event_id(last)
            assert all(position[each] >= offset for each, offset in self.position.items())
            self.last, self.position = last, position

    def _is_done(self, goal: asyncio.Future[dict[int, int]]) -> bool:
        return goal.done() and all(self.position.get(each, 0) >= end for each, end in goal.result().items())


def clients() -> list[Client]:
    """Two of each kind."""
    everything = [Client(path, lambda _: True, random.Random()) for path in ("/all", "/keyed", "/all", "/keyed")]
    of_keys = [Client(f"/of/k{n}", lambda r, n=n: r.key == f"k{n}", random.Random()) for n in (0, 1, 2, 0)]  # type: ignore[misc]
    parities = [Client(f"/parity/{p}", lambda r, p=p: r.header("parity") == p, random.Random()) for p in ("odd", "even")]  # type: ignore[misc]
    return [*everything, *of_keys, *parities, Client("/of/nobody", lambda _: False, random.Random())]


def check(client: Client, topic: list[Consumed]) -> None:
    """Compare what a client got with what is in the topic."""
    where = {record.value: record for record in topic}
    assert len(where) == len(topic)
    delivered = [where[event.data] for event in client.seen]
    wanted = [record for record in topic if client.wants(record)]
    assert len(delivered) == len(wanted), client.path  # neither lost nor twice ...
    assert {(r.partition, r.offset) for r in delivered} == {(r.partition, r.offset) for r in wanted}, client.path
    for partition in range(PARTITIONS):
        offsets = [record.offset for record in delivered if record.partition == partition]
        assert offsets == sorted(offsets), client.path  # ... and in order
    for event, record in zip(client.seen, delivered, strict=True):
        assert parse_event_id(event.id)[record.partition] == record.offset + 1


@pytest.mark.slow
@pytest.mark.parametrize("store_bytes", [None, 200_000], ids=["all in the store", "mostly in Kafka"])
async def test_nothing_is_lost_and_nothing_comes_twice(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, settings: Any, store_bytes: int | None
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "HEARTBEAT_SECONDS": 0.3, "READY_TIMEOUT_SECONDS": 20}
    name = topic(partitions=PARTITIONS)
    instances = [start(routes(kafka, name, store_bytes), folder) for folder in ("one", "two")]
    producers = Producers(kafka, name)
    goal: asyncio.Future[dict[int, int]] = asyncio.get_running_loop().create_future()
    everybody = clients()
    running = asyncio.gather(*(each.run(instances, goal) for each in everybody))
    positions = {f"client {number} of {each.path}": partial(getattr, each, "position") for number, each in enumerate(everybody)}
    watchdog = asyncio.ensure_future(watch(kafka, name, positions, running))
    producers.start()
    try:
        await until(lambda: running.done() or sum(producers.sent) >= RECORDS / 2)
        if store_bytes is None:  # what a first fetch wants as well is read anew, under the streams
            assert (await instances[0].request("GET", f"/one/{name}")).status_code == 200
        await until(lambda: running.done() or sum(producers.sent) >= RECORDS)
    finally:
        await asyncio.to_thread(producers.stop)
    records = await asyncio.to_thread(kafka.consume, name)
    goal.set_result({p: max((r.offset + 1 for r in records if r.partition == p), default=0) for p in range(PARTITIONS)})
    await watchdog
    await running
    for each in everybody:
        check(each, records)
    assert len(records) >= RECORDS
    assert min(each.connections for each in everybody if each.path != "/of/nobody") > 2
