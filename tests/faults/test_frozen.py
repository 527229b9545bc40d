"""The process that writes the store is frozen, not dead: it keeps its locks. And a data file that was cut."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from kafkaproxy.worker.store.reader import current_path
from kafkaproxy.worker.store.writer_lock import writer_pid
from tests.conftest import TopicFactory
from tests.faults.processes import Producing, StartServer, freeze, kill, thaw, writer_of
from tests.kafka import Cluster
from tests.support.servers import Site

PATIENCE = 60.0


@pytest.fixture
def name(topic: TopicFactory) -> str:
    return topic(name="frozen", partitions=1)


@pytest.fixture
def start(start_server: StartServer) -> Iterator[StartServer]:
    """Start servers that find a frozen writer soon; those that are still frozen at the end go on, so that they can stop."""
    started: list[Site] = []

    def start(**changes: object) -> Site:
        started.append(start_server(**{"WRITER_TIMEOUT_SECONDS": 2, **changes}))
        return started[-1]

    yield start
    for site in started:
        if site.process.poll() is None:
            thaw(site)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class Counter:
    """Counts up in one record's value until it is stopped."""

    def __init__(self, kafka: Cluster, topic: str) -> None:
        self.count = 0
        """What was acknowledged last."""
        self._cluster = Cluster(kafka.bootstrap)
        self._topic = topic
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Counter:
        self._cluster.produce(self._topic, "0", key="n")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            self._cluster.produce(self._topic, str(self.count + 1), key="n")
            self.count += 1


class Reader:
    """Asks one process for the count, again and again: it may be refused, but never be told less than before."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.last = 0
        self.refused = 0
        self.errors: list[str] = []
        self.least = 0
        """What an answer to a request that is sent from now on has to reach."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        assert not self.errors

    def _run(self) -> None:
        while not self._stopped.wait(0.01):
            least = max(self.last, self.least)
            try:
                answer = httpx.get(f"{self.site.url}/items/n", timeout=120)
            except httpx.HTTPError:  # it is dead
                continue
            if answer.status_code == 200:
                self.last = int(answer.content)
                if self.last < least:
                    self.errors.append(f"{self.last} after {least}")
            elif answer.status_code == 503:
                self.refused += 1
            else:
                self.errors.append(answer.text)


def test_the_others_go_on_without_a_frozen_writer_and_it_joins_them_when_it_is_back(
    kafka: Cluster, name: str, start: StartServer, tmp_path: Path
) -> None:
    sites = [start(), start(), start()]
    with ExitStack() as stack:
        counter = stack.enter_context(Counter(kafka, name))
        readers = [stack.enter_context(Reader(site)) for site in sites]
        until(lambda: all(reader.last > 0 for reader in readers))
        frozen = writer_of(sites, tmp_path)
        others = [reader for reader in readers if reader.site is not frozen]
        (back,) = [reader for reader in readers if reader.site is frozen]
        freeze(frozen)
        next_writer([each for each in sites if each is not frozen], tmp_path)
        later = counter.count + 2
        until(lambda: all(reader.last > later for reader in others))
        assert sum("store_taken_over cluster=default" in reader.site.log for reader in others) == 1
        assert all("store_stale cluster=default" in reader.site.log for reader in others)
        # The request that was under way is answered with what the process knew; every later one with what is.
        asked = back.last
        thaw(frozen)
        until(lambda: back.last > asked or back.refused)
        back.least = later
        seen = counter.count
        until(lambda: back.last > seen)
        writer = writer_of(sites, tmp_path)
        assert writer is not frozen
        assert len(writers(tmp_path)) == 1
    (folder,) = (tmp_path / "store/default").glob("store-*")
    until(lambda: len([each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()]) == 1)


def next_writer(sites: list[Site], folder: Path) -> Site:
    """Wait until one of the processes writes; return it."""
    pids = {site.process.pid: site for site in sites}
    until(lambda: writer_pid(current_path(folder / "store/default")) in pids)
    return writer_of(sites, folder)


def writers(folder: Path) -> set[int]:
    """Return the processes that hold the writer's lock of any generation."""
    locks = (folder / "store/default").glob("store-*/*/writer.lock")
    return {pid for pid in (writer_pid(lock.parent) for lock in locks) if pid is not None}


def test_whichever_process_is_frozen_or_killed_next_the_last_one_serves(
    kafka: Cluster, name: str, start: StartServer, tmp_path: Path
) -> None:
    sites = [start(), start(), start()]
    with ExitStack() as stack:
        counter = stack.enter_context(Counter(kafka, name))
        readers = {site.url: stack.enter_context(Reader(site)) for site in sites}
        until(lambda: all(reader.last > 0 for reader in readers.values()))
        first = writer_of(sites, tmp_path)
        freeze(first)
        second = next_writer([each for each in sites if each is not first], tmp_path)
        freeze(second)
        (third,) = [site for site in sites if site not in (first, second)]
        seen = counter.count
        until(lambda: readers[third.url].last > seen)
        kill(second)
        kill(third)
        thaw(first)
        seen = counter.count
        until(lambda: readers[first.url].last > seen)
        kill(first)
        again = start()
        reader = stack.enter_context(Reader(again))
        seen = counter.count
        until(lambda: reader.last > seen)


def test_a_process_that_may_not_write_says_so_and_serves_nothing_stale(
    kafka: Cluster, name: str, start: StartServer, tmp_path: Path
) -> None:
    kafka.produce(name, "1", key="n")
    writer = start()
    reader = start(INGEST=False)
    until(lambda: httpx.get(f"{reader.url}/items/n", timeout=60).content == b"1")
    freeze(writer)
    kafka.produce(name, "2", key="n")
    until(lambda: httpx.get(f"{reader.url}/items/n", timeout=60).status_code == 503)
    assert httpx.get(f"{reader.url}/items/n", timeout=60).json()["type"] == "urn:kafkaproxy:problem:topic-not-read-yet"
    assert "store_stale cluster=default" in reader.log
    thaw(writer)
    until(lambda: httpx.get(f"{reader.url}/items/n", timeout=60).content == b"2")


def test_what_waits_and_what_streams_goes_on_with_the_next_writer(
    kafka: Cluster, name: str, start: StartServer, tmp_path: Path
) -> None:
    kafka.produce(name, "0", key="n")
    sites = [start(), start()]
    frozen = writer_of(sites, tmp_path)
    (site,) = [each for each in sites if each is not frozen]
    etag = httpx.get(f"{site.url}/items/n", timeout=60).headers["etag"]
    answers: list[httpx.Response] = []
    headers = {"if-none-match": etag, "prefer": "wait=100"}
    waiting = threading.Thread(target=lambda: answers.append(httpx.get(f"{site.url}/items/n", headers=headers, timeout=120)))
    waiting.start()
    with httpx.stream("GET", f"{site.url}/stream", timeout=PATIENCE) as stream:
        lines = stream.iter_lines()
        assert next_number(lines) == 0
        freeze(frozen)
        produced = Producing(kafka, name)
        seen = [next_number(lines)]
        next_writer([site], tmp_path)
        produced.stop()
        kafka.produce(name, "-1", key="n")
        while seen[-1] != -1:
            seen.append(next_number(lines))
    assert seen == [*range(len(seen) - 1), -1], "one stream, without gap and without duplicate"
    waiting.join()
    assert answers[0].status_code == 200


def next_number(lines: Iterator[str]) -> int:
    for line in lines:
        if line.startswith("data:"):
            return int(json.loads(line.removeprefix("data:")))
    raise AssertionError("the stream ended")


def cut(folder: Path) -> None:
    path = current_path(folder / "store/default")
    assert path is not None
    os.truncate(path / "data.mdb", 8 * 4096)


def fill(kafka: Cluster, name: str) -> None:
    kafka.produce_many(name, [{"value": str(number), "key": str(number)} for number in range(2000)])


def test_a_data_file_that_was_cut_is_made_anew_at_the_next_start(
    kafka: Cluster, name: str, start: StartServer, tmp_path: Path
) -> None:
    fill(kafka, name)
    site = start()
    assert httpx.get(f"{site.url}/items/1999", timeout=60).content == b"1999"
    kill(site)
    cut(tmp_path)
    again = start()
    until(lambda: httpx.get(f"{again.url}/items", timeout=60).json() == list(range(2000)))
    assert "store_unreadable" in again.log


def test_a_data_file_that_is_cut_in_use_is_made_anew(kafka: Cluster, name: str, start: StartServer, tmp_path: Path) -> None:
    fill(kafka, name)
    sites = [start(), start()]
    for site in sites:
        until(lambda site=site: httpx.get(f"{site.url}/items/1999", timeout=60).content == b"1999")  # type: ignore[misc]
    cut(tmp_path)

    def is_served(place: int) -> bool:
        if sites[place].process.poll() is not None:  # as whatever watches over a server does
            assert sites[place].process.returncode in (-signal.SIGBUS, 128 + signal.SIGBUS)
            sites[place] = start()
        try:
            return bool(httpx.get(f"{sites[place].url}/items", timeout=60).json() == list(range(2000)))
        except httpx.HTTPError:  # it dies of reading what is not there
            return False

    for place in (0, 1):
        until(lambda place=place: is_served(place))  # type: ignore[misc]
    assert any("store_torn" in site.log or "store_unreadable" in site.log for site in sites)
