"""The price of a sync request: HTTP → Kafka → service → Kafka → HTTP, over the same exchange by librdkafka alone.

Run ``python -m benchmarks.sync --bootstrap HOST:PORT`` from the top of the checkout; the report is Markdown on standard output.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.common import helper, markdown_table, median, percentile, report, wrk
from benchmarks.echo import BareClient
from tests.kafka import Cluster
from tests.servers import Site, serve

BODY = b'{"greeting":"Hello, world"}'
METHOD = """\
One service in a process of its own answers both sides. *Bare* is a Python program that calls it over Kafka with one librdkafka
producer and consumer in one thread. *Ours* is a route with reply-to on granian (one worker). Both ask with acks=all and the
same body, and have a pair of topics each. Latency: one request after the other over one connection; *with key* sends a new
idempotency key each time, which makes us ask Kafka where the reply topic ends before we produce. Throughput: so many
requests open at all times, ours by wrk. The sides take turns, round after round; the numbers are of all samples (latency) or
the median of the rounds (throughput). Everything, the broker too, shares the cores below."""


class Keepalive:
    """One HTTP connection. A blocking socket: a client library would cost more than what is measured."""

    def __init__(self, site: Site) -> None:
        host, port = site.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def ask(self, key: str = "") -> float:
        """POST once and return the seconds until the whole answer was there."""
        lines = [b"POST /items/1 HTTP/1.1", b"host: localhost", b"content-type: application/json"]
        lines += [b"content-length: %d" % len(BODY)] + ([b"idempotency-key: " + key.encode()] if key else [])
        asked = time.perf_counter()
        self._socket.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + BODY)
        status = self._file.readline()
        length = 0
        while (line := self._file.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = self._file.read(length)
        took = time.perf_counter() - asked
        if b" 200 " not in status or body != BODY:
            raise RuntimeError(f"not an answer: {status!r} {body!r}")
        return took


def main() -> None:
    """Measure and print."""
    options = _options()
    cluster = Cluster(options.bootstrap)
    with _topics(cluster, options.partitions) as topics, tempfile.TemporaryDirectory() as folder:
        bare_requests, bare_replies, requests, replies = topics
        env = {"STORE": f"{folder}/store", "BOOTSTRAP": options.bootstrap, "REQUESTS": requests, "REPLIES": replies}
        flags = ("--workers", "1", "--no-ws", "--log-level", "warning")
        with (
            helper("benchmarks.echo", options.bootstrap, bare_requests, requests),
            serve("granian", "benchmarks.sync_app:application", Path(folder), env=env, options=flags) as site,
        ):
            bare = BareClient(options.bootstrap, bare_requests, bare_replies)
            results = {
                "latency_ms": _latency(bare, Keepalive(site), options.rounds, options.requests),
                "throughput": {
                    str(number): _throughput(bare, site, number, options, Path(folder)) for number in options.concurrent
                },
            }
            bare.close()
    print(report("Sync requests", METHOD, _table(results), results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="a Kafka that has nothing else to do")
    parser.add_argument("--rounds", type=int, default=10, help="how often the sides take turns (10)")
    parser.add_argument("--requests", type=int, default=300, help="requests of a round of latency (300)")
    parser.add_argument("--seconds", type=float, default=5, help="length of a round of throughput (5)")
    parser.add_argument("--load-rounds", type=int, default=3, help="rounds of throughput (3)")
    parser.add_argument("--concurrent", type=int, nargs="*", default=[256, 2000])
    parser.add_argument("--partitions", type=int, default=3)
    return parser.parse_args()


@contextmanager
def _topics(cluster: Cluster, partitions: int) -> Iterator[list[str]]:
    stem = f"bench-{uuid.uuid4().hex[:8]}"
    names = [f"{stem}-{each}" for each in ("bare-requests", "bare-replies", "requests", "replies")]
    try:
        yield [cluster.create_topic(name, partitions) for name in names]
    finally:
        with suppress(Exception):
            cluster.delete_topics(names)


def _latency(bare: BareClient, ours: Keepalive, rounds: int, requests: int) -> dict[str, dict[str, float]]:
    sides: dict[str, Callable[[], float]] = {
        "bare": lambda: bare.ask(BODY),
        "ours": ours.ask,
        "ours with key": lambda: ours.ask(str(uuid.uuid4())),
    }
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, ask in sides.items():
            took = [ask() for _ in range(requests)]
            if number:  # the first round warms up
                samples[name] += took
        print(f"latency round {number} of {rounds}", file=sys.stderr)
    return {name: {"p50": percentile(each, 0.5) * 1e3, "p99": percentile(each, 0.99) * 1e3} for name, each in samples.items()}


def _throughput(
    bare: BareClient, site: Site, concurrent: int, options: argparse.Namespace, folder: Path
) -> dict[str, dict[str, float]]:
    script = f"""
wrk.method = "POST"
wrk.body = '{BODY.decode()}'
wrk.headers["content-type"] = "application/json"
"""
    runs: dict[str, list[Mapping[str, float]]] = {"bare": [], "ours": []}
    for number in range(options.load_rounds):
        runs["bare"].append(bare.load(BODY, concurrent, options.seconds))
        runs["ours"].append(wrk(f"{site.url}/items/1", concurrent, options.seconds, script, folder))
        print(f"throughput {concurrent}, round {number + 1} of {options.load_rounds}", file=sys.stderr)
    return {name: {field: median(each[field] for each in given) for field in given[0]} for name, given in runs.items()}


def _table(results: dict[str, Any]) -> str:
    latency, rows = results["latency_ms"], []
    for name in ("ours", "ours with key"):
        for share in ("p50", "p99"):
            bare, ours = latency["bare"][share], latency[name][share]
            rows.append((f"{name}, {share}", f"{bare:.2f} ms", f"{ours:.2f} ms", f"{ours / bare:.2f}x"))
    for concurrent, sides in results["throughput"].items():
        bare, ours = sides["bare"]["per_second"], sides["ours"]["per_second"]
        rows.append((f"{concurrent} at once", f"{bare:,.0f}/s", f"{ours:,.0f}/s", f"{ours / bare:.2f}x"))
    return markdown_table(("", "bare", "ours", "ours / bare"), rows)


if __name__ == "__main__":
    main()
