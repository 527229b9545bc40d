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
from tests.support.servers import Site, serve

BODY = b'{"greeting":"Hello, world"}'
SCRIPT = f"""
wrk.method = "POST"
wrk.body = '{BODY.decode()}'
wrk.headers["content-type"] = "application/json"
"""
KEYS = """
local number = 0
request = function()
  number = number + 1
  wrk.headers["idempotency-key"] = string.format("%d-%.9f-%d", os.time(), os.clock(), number)
  return wrk.format()
end
"""
FLAGS = {
    "granian": ("--workers", "1", "--no-ws", "--log-level", "warning"),
    "uvicorn": ("--log-level", "warning", "--no-access-log"),
}
METHOD = """\
One service in a process of its own answers both sides. *Bare* is a Python program that calls it over Kafka with one
librdkafka producer and consumer in one thread. *Ours* is a route with reply-to on {server} (one worker). Both ask with
acks=all and the same body, and have a pair of topics each. *With key* sends a new idempotency key each time, which makes us
ask Kafka where the reply topic ends before we produce. *HTTP alone* is the same server answering the same body without Kafka:
the part of ours that is not ours. Latency: one request after the other, over one connection, {rounds} rounds of {requests} on
each side, percentiles of all; *added* is what ours takes beyond bare. We aim at no more than 1.3 times bare for p50 and 2
times for p99. Throughput: so many requests open at all times, ours by wrk, the median of {load_rounds} rounds of {seconds:g}
s. The sides take turns. Everything, the broker too, shares the cores below."""


class Keepalive:
    """One HTTP connection. A blocking socket: a client library would cost more than what is measured."""

    def __init__(self, site: Site) -> None:
        host, port = site.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def ask(self, path: str = "/items/1", key: str = "") -> float:
        """POST once and return the seconds until the whole answer was there."""
        lines = [f"POST {path} HTTP/1.1".encode(), b"host: localhost", b"content-type: application/json"]
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
        with (
            helper("benchmarks.echo", options.bootstrap, bare_requests, requests),
            serve(
                options.server, "benchmarks.sync_app:application", Path(folder), env=env, options=FLAGS[options.server]
            ) as site,
        ):
            bare = BareClient(options.bootstrap, bare_requests, bare_replies)
            results = {
                "latency_ms": _latency(bare, Keepalive(site), options.rounds, options.requests),
                "throughput": {str(each): _throughput(bare, site, each, options, Path(folder)) for each in options.concurrent},
            }
            bare.close()
    print(report("Sync requests", METHOD.format(**vars(options)), _table(results), results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="a Kafka that has nothing else to do")
    parser.add_argument("--server", choices=FLAGS, default="granian")
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
        "ours with key": lambda: ours.ask(key=str(uuid.uuid4())),
        "HTTP alone": lambda: ours.ask("/echo"),
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
    def load(path: str, script: str) -> Callable[[], Mapping[str, float]]:
        return lambda: wrk(site.url + path, concurrent, options.seconds, script, folder)

    sides: dict[str, Callable[[], Mapping[str, float]]] = {
        "bare": lambda: bare.load(BODY, concurrent, options.seconds),
        "ours": load("/items/1", SCRIPT),
        "ours with key": load("/items/1", SCRIPT + KEYS),
        "HTTP alone": load("/echo", SCRIPT),
    }
    runs: dict[str, list[Mapping[str, float]]] = {name: [] for name in sides}
    for number in range(options.load_rounds):
        for name, run in sides.items():
            runs[name].append(run())
        print(f"throughput {concurrent}, round {number + 1} of {options.load_rounds}", file=sys.stderr)
    if errors := {name: [each["errors"] for each in given] for name, given in runs.items() if any(e["errors"] for e in given)}:
        raise SystemExit(f"Not every answer was one, so this measures nothing: errors of each round {errors}.")
    return {name: {field: median(each[field] for each in given) for field in given[0]} for name, given in runs.items()}


def _table(results: dict[str, Any]) -> str:
    latency, rows = results["latency_ms"], []
    for name in ("ours", "ours with key", "HTTP alone"):
        for share in ("p50", "p99"):
            bare, ours = latency["bare"][share], latency[name][share]
            added = f"{(ours - bare) / bare:.2f}x" if name != "HTTP alone" else ""
            rows.append((f"{name}, {share}", f"{bare:.2f} ms", f"{ours:.2f} ms", f"{ours / bare:.2f}x", added))
    for concurrent, sides in results["throughput"].items():
        for name in ("ours", "ours with key", "HTTP alone"):
            bare, ours = sides["bare"]["per_second"], sides[name]["per_second"]
            rows.append((f"{name}, {concurrent} at once", f"{bare:,.0f}/s", f"{ours:,.0f}/s", f"{ours / bare:.3f}x", ""))
    return markdown_table(("", "bare", "measured", "measured / bare", "added / bare"), rows)


if __name__ == "__main__":
    main()
