"""Cached GET (200 and 304) and oneway POST on granian, one core, as ratios to bare ASGI applications in the same run.

``python -m benchmarks.rest --servers localhost:9092 [--seconds 4] [--rounds 3] [--write FILE]``
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import ROOT, markdown_table, median, report, wrk
from tests.kafka import Cluster

POST = 'wrk.method="POST"\nwrk.body=\'{"greeting":"Hello, world"}\'\nwrk.headers["content-type"]="application/json"\n'
METHOD = """granian with one worker on core 0, `wrk -t1` on core 1, keep-alive, each figure the median of {rounds} interleaved
rounds of {seconds:g} s. *raw* answers the same bytes without looking at anything; *stub* produces the body and awaits the
delivery report (acks all, idempotent) with our producer, and does nothing else. Ratio: ours to the baseline of the same row."""


@contextmanager
def served(app: str, environ: dict[str, str]) -> Iterator[str]:
    """Serve an application until the block ends; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--interface", "asgi", "--port", str(port), "--workers", "1", "--no-ws", "--log-level", "error"]
    command = ["taskset", "-c", "0", sys.executable, "-m", "granian", *options, "benchmarks.rest_app:app"]
    process = subprocess.Popen(command, env={**os.environ, **environ, "BENCH_APP": app}, cwd=ROOT)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def wait_for(port: int) -> None:
    """Wait until something listens."""
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the server did not start")


def conditional(url: str) -> str:
    """Return a script that sends the entity tag which the server gives now."""
    with urllib.request.urlopen(url) as response:
        etag = response.headers["etag"]
    return f"wrk.headers[\"if-none-match\"]='{etag}'\n"


def measure(servers: str, seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    """Run every case in turn, ``rounds`` times; return requests/s by case and application."""
    kafka = Cluster(servers)
    topic = kafka.create_topic(f"bench-{uuid.uuid4().hex[:8]}", 1, {"cleanup.policy": "compact"})
    kafka.create_topic(f"{topic}-events")
    headers = [("content-type", "application/json")]
    kafka.produce(topic, b'{"greeting":"Hello, world"}', key="1", headers=headers)
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = {"BENCH_SERVERS": servers, "BENCH_TOPIC": topic, "BENCH_DIR": str(folder / "store")}
        for _ in range(rounds):
            for app in ("raw", "proxy", "stub"):
                with served(app, environ) as url:
                    for case, rate in cases(app, url, seconds, folder):
                        found.setdefault((case, app), []).append(rate)
    kafka.delete_topics([topic, f"{topic}-events"])
    return table(found)


def cases(app: str, url: str, seconds: float, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield the cases of an application and their requests/s."""
    item, events = f"{url}/items/1", f"{url}/events"
    if app != "stub":
        wrk(item, 8, 1, "", folder)
        yield "GET 200", checked(wrk(item, 32, seconds, "", folder))
        yield "GET 304", checked(wrk(item, 32, seconds, conditional(item), folder))
    if app != "raw":
        wrk(events, 8, 1, POST, folder)
        yield "POST 204", checked(wrk(events, 64, seconds, POST, folder))


def checked(result: dict[str, float]) -> float:
    """Return the rate; a run with errors counts for nothing."""
    if result["errors"]:
        raise SystemExit(f"{result['errors']} requests failed")
    return result["per_second"]


def table(found: dict[tuple[str, str], list[float]]) -> dict[str, dict[str, float]]:
    """Return medians and ratios by case."""
    results: dict[str, dict[str, float]] = {}
    for case, baseline in (("GET 200", "raw"), ("GET 304", "raw"), ("POST 204", "stub")):
        base, ours = median(found[case, baseline]), median(found[case, "proxy"])
        results[case] = {"baseline": base, "ours": ours, "ratio": ours / base}
    return results


def main() -> None:
    """Measure and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"))
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="where the page goes, besides standard output")
    options = parser.parse_args()
    results = measure(options.servers, options.seconds, options.rounds)
    rows = [
        (
            case,
            "raw" if case.startswith("GET") else "stub",
            f"{each['baseline']:.0f}",
            f"{each['ours']:.0f}",
            f"{each['ratio']:.2f}",
        )
        for case, each in results.items()
    ]
    titles = ["case", "baseline", "baseline requests/s", "ours requests/s", "ratio"]
    method = METHOD.format(rounds=options.rounds, seconds=options.seconds)
    page = report("REST", method, markdown_table(titles, rows), results)
    print(page)
    if options.write:
        options.write.write_text(page)


if __name__ == "__main__":
    main()
