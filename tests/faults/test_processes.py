"""Several processes of a host share a store: one writes, all read, and any of them may die at any instant."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from kafkaproxy.worker.store.reader import FORMAT
from tests.conftest import TopicFactory
from tests.faults.processes import Producing, StartServer, kill, writer_of
from tests.kafka import Cluster
from tests.support.servers import Site


@pytest.fixture
def name(topic: TopicFactory) -> str:
    return topic(name="shared", partitions=2)


def get(site: Site, path: str) -> httpx.Response:
    return httpx.get(site.url + path, timeout=30)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def until_served(site: Site, path: str, body: bytes) -> None:
    until(lambda: get(site, path).content == body)


def until_count(site: Site, count: int) -> None:
    until(lambda: len(get_all(site)) >= count)


def test_whoever_writes_a_record_every_process_serves_it(
    kafka: Cluster, name: str, start_server: StartServer, tmp_path: Path
) -> None:
    sites = [start_server(), start_server()]
    writer = writer_of(sites, tmp_path)
    (other,) = [site for site in sites if site is not writer]
    for number, site in enumerate((writer, other)):
        assert httpx.put(f"{site.url}/items/{number}", content=b"%d" % number, timeout=30).status_code == 204
        assert get(site, f"/items/{number}").content == b"%d" % number
    kafka.produce(name, "2", key="2")
    for site in sites:
        for number in range(3):
            until_served(site, f"/items/{number}", b"%d" % number)
    # A process that waits is woken by the process that writes.
    etag = get(other, "/items/2").headers["etag"]
    answers: list[httpx.Response] = []
    headers = {"if-none-match": etag, "prefer": "wait=60"}
    waiting = threading.Thread(target=lambda: answers.append(httpx.get(f"{other.url}/items/2", headers=headers, timeout=90)))
    waiting.start()
    kafka.produce(name, "3", key="2")
    waiting.join()
    assert answers[0].content == b"3"


def test_a_killed_writer_is_succeeded_without_gap_and_without_duplicate(
    kafka: Cluster, name: str, start_server: StartServer, tmp_path: Path
) -> None:
    sites = [start_server(), start_server()]
    produced = Producing(kafka, name)
    until_count(sites[0], 500)
    for _ in range(2):
        writer = writer_of(sites, tmp_path)
        kill(writer)
        sites = [site for site in sites if site is not writer]
        before = len(get_all(sites[0]))
        sites.append(start_server())
        for site in sites:
            until_count(site, before + 500)
    produced.stop()
    expected = [int(record.value or "") for record in kafka.consume(name)]
    assert sorted(expected) == list(range(len(expected)))
    for site in sites:
        until_count(site, len(expected))
        assert get_all(site) == expected


def test_a_killed_writer_leaves_the_others_able_to_answer(
    kafka: Cluster, name: str, start_server: StartServer, tmp_path: Path
) -> None:
    kafka.produce(name, "1", key="a")
    sites = [start_server(), start_server()]
    assert [get(site, "/items/a").content for site in sites] == [b"1", b"1"]
    writer = writer_of(sites, tmp_path)
    (other,) = [site for site in sites if site is not writer]
    kill(writer)
    for _ in range(50):  # from the very moment on, the hand-over included
        assert get(other, "/items/a").content == b"1"
        assert get(other, "/items/none").status_code == 404
        time.sleep(0.03)
    assert httpx.put(f"{other.url}/items/a", content=b"2", timeout=30).status_code == 204
    until_served(other, "/items/a", b"2")
    assert writer_of([other], tmp_path) is other


def test_a_process_that_may_not_write_serves_what_another_reads(
    kafka: Cluster, name: str, start_server: StartServer, tmp_path: Path
) -> None:
    kafka.produce(name, "1", key="a")
    reader = start_server(INGEST=False)
    assert get(reader, "/items/a").status_code == 503
    writer = start_server()
    until_served(reader, "/items/a", b"1")
    assert writer_of([reader, writer], tmp_path) is writer
    kill(writer)
    assert get(reader, "/items/a").content == b"1"  # what was read stays in service
    kafka.produce(name, "2", key="a")
    start_server()
    until_served(reader, "/items/a", b"2")


def test_a_process_does_not_trust_what_a_dead_writer_called_ready(
    kafka: Cluster, name: str, start_server: StartServer, tmp_path: Path
) -> None:
    kafka.produce(name, "1", key="a", partition=0)
    first = start_server()
    assert get(first, "/items").json() == [1]
    kill(first)
    kafka.produce(name, "2", key="a", partition=0)
    again = start_server()
    assert get(again, "/items").json() == [1, 2]
    kill(again)
    assert get(start_server(INGEST=False), "/items").status_code == 503  # it is not known what Kafka holds now


def test_a_killed_reader_does_not_hold_on_to_the_store(name: str, start_server: StartServer, tmp_path: Path) -> None:
    site = start_server()
    assert get(site, "/items").json() == []
    code = (
        "import lmdb, os, sys, time; env = lmdb.open(sys.argv[1], max_dbs=20, max_readers=1024); txn = env.begin();"
        "print(os.getpid(), flush=True); time.sleep(600)"
    )
    path = str(tmp_path / "store/default" / f"store-{FORMAT}" / "current")
    reader = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    pid = int(reader.stdout.readline())
    assert pid in _readers(path)
    reader.kill()
    reader.communicate()
    until(lambda: pid not in _readers(path))


def get_all(site: Site) -> list[int]:
    return list(get(site, "/items").json())


def _readers(path: str) -> set[int]:
    """Return the processes that have a reader's slot in a store, dead ones too."""
    code = "import lmdb, sys; print(lmdb.open(sys.argv[1], max_dbs=20, max_readers=1024, readonly=True).readers())"
    shown = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in shown.splitlines() if re.match(r"\s*\d", line)}
