"""Processes that share a store, whose writer is killed amid traffic: what was served goes on being served."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.busy.conftest import Begin
from tests.conftest import TopicFactory
from tests.faults.processes import StartServer, kill, writer_of
from tests.kafka import Cluster
from tests.support.servers import Site
from tests.support.streams import SocketStream
from tests.support.traffic import Flow, Kind
from tests.support.watchdog import read_to_end

KEYS = 10


@pytest.fixture
def name(topic: TopicFactory) -> str:
    return topic(name="shared")


class Client(threading.Thread):
    """Asks one process for one item again and again; remembers the statuses and the numbers."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.statuses: Counter[int] = Counter()
        self.numbers: list[int] = []
        self.refused = ""
        self._done = threading.Event()
        self.start()

    def run(self) -> None:
        """Ask until told to stop."""
        with httpx.Client(base_url=self.site.url, timeout=60) as client:
            while not self._done.wait(0.01):
                try:
                    self._ask(client)
                except httpx.TransportError as error:  # its process was killed
                    self.refused = repr(error)
                    self.statuses[0] += 1
                    return

    def _ask(self, client: httpx.Client) -> None:
        response = client.get("/items/k1")
        self.statuses[response.status_code] += 1
        if response.status_code == 200:
            self.numbers.append(int(response.content))
        elif not self.refused:
            self.refused = response.text

    def stop(self) -> None:
        """Stop, and wait for that."""
        self._done.set()
        self.join()

    def assert_served(self) -> None:
        """Check that every answer was 200, and none older than the one before."""
        assert set(self.statuses) == {200}, f"{self.statuses}: {self.refused}"
        assert self.numbers == sorted(self.numbers)

    def until_past(self, number: int) -> None:
        """Wait until what is served is newer than ``number``."""
        deadline = time.monotonic() + 60
        while not self.numbers or self.numbers[-1] <= number:
            assert time.monotonic() < deadline, f"{self.site.url} stays at {self.numbers[-1:]}: {self.statuses}: {self.refused}"
            time.sleep(0.02)


@contextlib.contextmanager
def clients(sites: Sequence[Site]) -> Iterator[list[Client]]:
    running = [Client(site) for site in sites]
    try:
        yield running
    finally:
        for each in running:
            each.stop()


def until_served(site: Site) -> int:
    """Wait until an item is served; return its number."""
    deadline = time.monotonic() + 60
    while (response := httpx.get(f"{site.url}/items/k1", timeout=60)).status_code != 200:
        assert time.monotonic() < deadline, f"{response.status_code}: {response.text}"
    return int(response.content)


@pytest.mark.parametrize(
    ("rate", "kind"),
    [(20, Kind.PLAIN), (1_000, Kind.PLAIN), (1_000, Kind.COMMITTED), (10_000, Kind.PLAIN)],
    ids=["20", "1000", "1000 in transactions", "10000"],
)
def test_what_was_served_is_served_on_when_the_writer_is_killed(
    begin: Begin, name: str, start_server: StartServer, tmp_path: Path, rate: int, kind: Kind
) -> None:
    flow = Flow(topic=name, rate=rate, kind=kind, keys=KEYS)
    traffic = begin(flow)
    # A process that finds its topic not ready says so at once, and does not hide it by waiting.
    sites = [start_server(READY_TIMEOUT_SECONDS=0.05) for _ in range(3)]
    for site in sites:
        until_served(site)
    for _ in range(2):
        writer = writer_of(sites, tmp_path)
        sites = [site for site in sites if site is not writer]
        with clients(sites) as asking:
            for each in asking:
                each.until_past(traffic.last(flow)["k1"])
            kill(writer)
            now = traffic.last_now(flow)["k1"]
            for each in asking:
                each.until_past(now)
        for each in asking:
            each.assert_served()
    traffic.goes_on()


@pytest.mark.parametrize("rate", [20, 1_000])
def test_a_process_that_comes_back_serves_nothing_older_than_its_start(
    begin: Begin, name: str, start_server: StartServer, rate: int
) -> None:
    flow = Flow(topic=name, rate=rate, keys=KEYS)
    traffic = begin(flow)
    first = start_server()
    until_served(first)
    kill(first)
    traffic.wait_for(flow, traffic.acknowledged(flow) + 2 * KEYS)
    floor = traffic.last_now(flow)["k1"]
    assert until_served(start_server()) >= floor


@pytest.mark.parametrize("rate", [20, 1_000])
async def test_streams_go_on_when_the_writer_is_killed(
    kafka: Cluster, begin: Begin, name: str, start_server: StartServer, tmp_path: Path, rate: int
) -> None:
    flow = Flow(topic=name, rate=rate, keys=KEYS)
    traffic = await asyncio.to_thread(begin, flow)
    sites = [await asyncio.to_thread(start_server) for _ in range(2)]
    for site in sites:
        await asyncio.to_thread(until_served, site)
    writer = writer_of(sites, tmp_path)
    (other,) = [site for site in sites if site is not writer]
    stays, cut = [await SocketStream.connect(site.url) for site in (other, writer)]
    staying, before = await stays.get("/stream"), await cut.get("/stream")
    assert (staying.status, before.status) == (200, 200)
    events = [await before.next() for _ in range(20)]
    await asyncio.to_thread(kill, writer)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            events.append(await before.next())
    resumed = await SocketStream.connect(other.url)
    after = await resumed.get("/stream", {"last-event-id": events[-1].id})
    assert after.status == 200
    killed = traffic.acknowledged(flow)
    await asyncio.to_thread(traffic.wait_for, flow, killed + rate)
    await asyncio.to_thread(traffic.stop)
    everything = list(range(1, traffic.acknowledged(flow) + 1))
    assert sorted(int(event.data) for event in await read_to_end(staying, kafka, name)) == everything
    events += await read_to_end(after, kafka, name)
    assert sorted(int(event.data) for event in events) == everything
    for each in (stays, cut, resumed):
        each.close()
