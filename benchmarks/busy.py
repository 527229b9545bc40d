"""A start amid traffic over a bare consumer's catch-up, and what a topic that is caught up costs the others.

Run ``python -m benchmarks.busy --bootstrap HOST:PORT`` from the top of the checkout; the report is Markdown on standard output.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from benchmarks.common import helper, markdown_table, median, percentile, report
from benchmarks.sync import FLAGS, Keepalive
from tests.kafka import Cluster
from tests.support.servers import Site, serve
from tests.support.traffic import Flow, Kind, Traffic

VALUE = b'{"greeting":"Hello, world"}'
KEYS = 1000
_PATIENCE = 120.0
KINDS: Mapping[str, tuple[Kind, Mapping[str, str]]] = {
    "plain": (Kind.PLAIN, {}),
    "compacted": (Kind.PLAIN, {"cleanup.policy": "compact"}),
    "transactional": (Kind.COMMITTED, {}),
}
METHOD = """\
*Start*: a topic has {preload:,} records and receives more, at the rate given, from a process that never pauses. *Bare* is a
consumer in Python, new each time, that asks where the partitions end (the last stable offset) and reads from their start up
to there. *Ours* is {server} (one worker) that has just been started, with an empty store: the time from the first request to
the first 200, its own start-up of clients and store included; requests are asked again as long as they are answered 503.
Median of {rounds} rounds, the sides take turns. We aim at bare + 1 s.

*Catch-up*: {records:,} records of another topic are read while sync requests are asked one after the other over one
connection, and records are produced to a quiet topic, one after the other, until a fetch shows them. *Quiet* is the same
without the catch-up, {requests} of each. Everything, the broker and the service too, shares the cores below."""


def main() -> None:
    """Measure and print."""
    options = _options()
    cluster = Cluster(options.bootstrap)
    starts = {
        f"{kind}, {rate:,}/s, {partitions} {'partition' if partitions == 1 else 'partitions'}": _start(
            cluster, kind, rate, partitions, options
        )
        for kind, rate, partitions in itertools.product(options.kinds, options.rates, options.partitions)
    }
    results = {"start_seconds": starts, "catch_up": _catch_up(cluster, options)}
    print(report("Starts and catch-up amid traffic", METHOD.format(**vars(options)), _tables(results), results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="a Kafka that has nothing else to do")
    parser.add_argument("--server", choices=FLAGS, default="granian")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rates", type=int, nargs="*", default=[20, 1_000, 20_000], help="records/s (20 1000 20000)")
    parser.add_argument("--partitions", type=int, nargs="*", default=[1, 12])
    parser.add_argument("--preload", type=int, default=100_000, help="records before the traffic (100000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often the sides take turns (3)")
    parser.add_argument("--records", type=int, default=2_000_000, help="records that are caught up (2000000)")
    parser.add_argument("--requests", type=int, default=500, help="sync requests, and records, of the quiet side (500)")
    return parser.parse_args()


# Start


def _start(cluster: Cluster, kind: str, rate: int, partitions: int, options: argparse.Namespace) -> dict[str, float]:
    produced, config = KINDS[kind]
    with _topics(cluster, partitions, config) as (topic,):
        _fill(cluster, topic, options.preload)
        flow = Flow(topic=topic, rate=rate, kind=produced, keys=KEYS)
        bare, ours = [], []
        with Traffic(cluster.bootstrap, flow) as traffic:
            traffic.wait_for(flow, max(5, rate // 2))
            for _ in range(options.rounds):
                bare.append(_bare(cluster, topic))
                ours.append(_ours(cluster, topic, options.server))
            traffic.goes_on()
    found = {"bare": median(bare), "ours": median(ours)}
    print(f"{kind}, {rate}/s, {partitions} partitions: {found}", file=sys.stderr)
    return found


def _bare(cluster: Cluster, topic: str) -> float:
    """Return the seconds until a consumer has read all that is there when it asks."""
    begun = time.perf_counter()
    ends = _ends(cluster, topic)
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "unused", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    missing = {partition for partition, end in ends.items() if end}
    while missing:
        for message in consumer.consume(2000, 0.05):
            partition = message.partition() or 0
            # At the end of the log the message is the event that says so, and its offset the end.
            if (message.offset() or 0) + (message.error() is None) >= ends[partition]:
                missing.discard(partition)
    took = time.perf_counter() - begun
    consumer.close()
    return took


def _ends(cluster: Cluster, topic: str) -> dict[int, int]:
    partitions = cluster.admin.list_topics(topic, _PATIENCE).topics[topic].partitions
    asked = cluster.admin.list_offsets(
        {TopicPartition(topic, each): OffsetSpec.latest() for each in partitions}, isolation_level=IsolationLevel.READ_COMMITTED
    )
    return {at.partition: future.result(_PATIENCE).offset for at, future in asked.items()}


def _ours(cluster: Cluster, topic: str, server: str) -> float:
    """Return the seconds until a server that has just been started serves an item of the topic."""
    with tempfile.TemporaryDirectory() as folder, _served(cluster, folder, server) as site:
        begun = time.perf_counter()
        _until_served(site, topic)
        return time.perf_counter() - begun


@contextmanager
def _served(cluster: Cluster, folder: str, server: str, **env: str) -> Iterator[Site]:
    env |= {"STORE": f"{folder}/store", "BOOTSTRAP": cluster.bootstrap}
    with serve(server, "benchmarks.busy_app:application", Path(folder), env=env, options=FLAGS[server]) as site:
        yield site


def _until_served(site: Site, topic: str) -> None:
    deadline = time.perf_counter() + _PATIENCE
    while (status := _get(site, f"/topics/{topic}/k1")[0]) != 200:
        if status != 503 or time.perf_counter() > deadline:
            raise RuntimeError(f"not an answer: {status}")


def _get(site: Site, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(site.url.removeprefix("http://"), timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


# Catch-up


def _catch_up(cluster: Cluster, options: argparse.Namespace) -> dict[str, Any]:
    with _topics(cluster, 1, {}, 4) as (big, quiet, requests, replies), tempfile.TemporaryDirectory() as folder:
        _fill(cluster, big, options.records)
        cluster.produce(quiet, b"0", key="k1")
        bare = _bare(cluster, big)
        with (
            helper("benchmarks.echo", cluster.bootstrap, requests),
            _served(cluster, folder, options.server, REQUESTS=requests, REPLIES=replies) as site,
        ):
            _until_served(site, quiet)
            ask, seen = Keepalive(site).ask, _Seen(cluster, site, quiet).measure
            sides = {"sync request": ask, "record until it is served": seen}
            _take_turns(sides, range(20))
            quiet_side = _take_turns(sides, range(options.requests))
            reading = threading.Thread(target=_until_served, args=(site, big))
            begun = time.perf_counter()
            reading.start()
            busy_side = _take_turns(sides, iter(reading.is_alive, False))
            took = time.perf_counter() - begun
    return {"quiet": quiet_side, "catching_up": busy_side, "catch_up_seconds": {"bare": bare, "ours": took}}


def _take_turns(sides: Mapping[str, Callable[[], float]], turns: Iterable[object]) -> dict[str, dict[str, float]]:
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for _ in turns:
        for name, measure in sides.items():
            samples[name].append(measure())
    return {name: _summary(seconds) for name, seconds in samples.items()}


def _summary(seconds: list[float]) -> dict[str, float]:
    milliseconds = [each * 1e3 for each in seconds]
    shares = {f"p{round(share * 100)}": percentile(milliseconds, share) for share in (0.5, 0.99)}
    return {**shares, "max": max(milliseconds), "count": len(milliseconds)}


class _Seen:
    """Produces a number to the quiet topic and asks until a fetch shows it."""

    def __init__(self, cluster: Cluster, site: Site, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": cluster.bootstrap, "linger.ms": 0})
        self._connection = http.client.HTTPConnection(site.url.removeprefix("http://"), timeout=_PATIENCE)
        self._topic = topic
        self._number = 0

    def measure(self) -> float:
        """Return the seconds from the acknowledgement to the fetch that shows the record."""
        self._number += 1
        self._producer.produce(self._topic, str(self._number), "k1")
        self._producer.flush(_PATIENCE)
        begun = time.perf_counter()
        while True:
            self._connection.request("GET", f"/topics/{self._topic}/k1")
            if int(self._connection.getresponse().read()) == self._number:
                return time.perf_counter() - begun


# Topics and tables


@contextmanager
def _topics(cluster: Cluster, partitions: int, config: Mapping[str, str], count: int = 1) -> Iterator[list[str]]:
    names = [f"bench-{uuid.uuid4().hex[:8]}" for _ in range(count)]
    try:
        yield [cluster.create_topic(name, partitions, config) for name in names]
    finally:
        with suppress(Exception):
            cluster.delete_topics(names)


def _fill(cluster: Cluster, topic: str, count: int) -> None:
    options = {"partitioner": "murmur2_random", "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
    producer = Producer({"bootstrap.servers": cluster.bootstrap, **options})
    for number in range(count):
        while True:
            try:
                producer.produce(topic, VALUE, f"k{number % KEYS}")
            except BufferError:
                producer.poll(0.1)
            else:
                break
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(_PATIENCE):
        raise TimeoutError(f"{topic} was not filled")


def _tables(results: Mapping[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        (name, f"{each['bare']:.2f} s", f"{each['ours']:.2f} s", f"{each['ours'] - each['bare']:+.2f} s")
        for name, each in results["start_seconds"].items()
    ]
    starts = markdown_table(("start", "bare", "first 200", "difference"), rows)
    catch_up = results["catch_up"]
    rows = [
        (f"{name}, {share}", f"{quiet[share]:.1f} ms", f"{busy[share]:.1f} ms", f"{busy[share] / quiet[share]:.1f}x")
        for name, quiet in catch_up["quiet"].items()
        for share in ("p50", "p99", "max")
        for busy in [catch_up["catching_up"][name]]
    ]
    bare, ours = (catch_up["catch_up_seconds"][side] for side in ("bare", "ours"))
    rows.append(("the catch-up itself, bare and ours", f"{bare:.1f} s", f"{ours:.1f} s", f"{ours / bare:.1f}x"))
    return f"{starts}\n\n{markdown_table(('', 'quiet', 'while catching up', ''), rows)}"


if __name__ == "__main__":
    main()
