"""Streams of processes that share a store, whose writer is killed: clients go on at any process, as if nothing had been."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from kafkaproxy.core.eventids import parse_event_id
from tests.conftest import TopicFactory
from tests.faults.processes import Producing, StartServer, kill, writer_of
from tests.kafka import Cluster, Consumed
from tests.support.servers import Site
from tests.support.streams import Event, SocketStream
from tests.support.watchdog import missing, watch

PARTITIONS = 2
Goal = asyncio.Future[Mapping[int, int]]


@pytest.fixture
def name(topic: TopicFactory) -> str:
    return topic(name="shared-streams", partitions=PARTITIONS)


class Client:
    """Reads at one of the processes; when its connection breaks, on at another one, from the last id."""

    def __init__(self, sites: list[Site]) -> None:
        self.seen: list[Event] = []
        self.position: dict[int, int] = {}
        self.connections = 0
        self._sites = sites
        self._last = ""

    async def run(self, goal: Goal) -> None:
        """Read until everything up to the goal was delivered."""
        while not self._is_done(goal):
            try:
                await self._connect(self._sites[self.connections % len(self._sites)], goal)
            except ConnectionError:
                await asyncio.sleep(0.1)

    async def _connect(self, site: Site, goal: Goal) -> None:
        connection = await SocketStream.connect(site.url)
        try:
            s = await connection.get("/stream", {"last-event-id": self._last} if self._last else {})
            self.connections += s.status == 200
            while s.status == 200 and not self._is_done(goal) and await s.more():
                self.seen += s.arrived()
                self._last = s.last_event_id or self._last
                self.position = parse_event_id(self._last) if self._last else {}
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("the process died before it answered") from None
        finally:
            connection.close()

    def _is_done(self, goal: Goal) -> bool:
        return goal.done() and not missing(self.position, goal.result())


async def _until_all_have(count: int, clients: list[Client], watchdog: asyncio.Future[None]) -> None:
    """Wait until every client has got so many events more than it has now."""
    goals = [len(each.seen) + count for each in clients]
    while not watchdog.done() and any(len(each.seen) < goal for each, goal in zip(clients, goals, strict=True)):
        await asyncio.wait((watchdog,), timeout=0.05)


def _check(client: Client, records: list[Consumed]) -> None:
    """Compare what a client got with what Kafka holds: nothing is missing, nothing came twice, all is in order."""
    partition_of = {record.value: record.partition for record in records}
    for partition in range(PARTITIONS):
        got = [event.data for event in client.seen if partition_of[event.data] == partition]
        assert got == [record.value for record in records if record.partition == partition]


async def test_streams_go_on_when_the_writer_is_killed(
    kafka: Cluster, name: str, start_server: StartServer, tmp_path: Path
) -> None:
    sites = [start_server(), start_server()]
    writer = writer_of(sites, tmp_path)
    (survivor,) = [site for site in sites if site is not writer]
    place = [writer]
    stay, move, come_back = ([Client(at), Client(at)] for at in ([survivor], [writer, survivor], place))
    everybody = [*stay, *move, *come_back]
    goal: Goal = asyncio.get_running_loop().create_future()
    running = asyncio.gather(*(each.run(goal) for each in everybody))
    positions = {f"client {number}": partial(getattr, each, "position") for number, each in enumerate(everybody)}
    watchdog = asyncio.ensure_future(watch(kafka, name, positions, running))
    producing = Producing(kafka, name)
    try:
        await _until_all_have(200, everybody, watchdog)
        await asyncio.to_thread(kill, writer)
        place[0] = await asyncio.to_thread(start_server)
        await _until_all_have(200, everybody, watchdog)
    finally:
        await asyncio.to_thread(producing.stop)
    goal.set_result(await asyncio.to_thread(kafka.ends, name))
    await watchdog
    await running
    records = await asyncio.to_thread(kafka.consume, name)
    for each in everybody:
        _check(each, records)
    # Streams of a process that lives noticed nothing; the others resumed once, at the other process or at a new one.
    assert [each.connections for each in everybody] == [1, 1, 2, 2, 2, 2]
