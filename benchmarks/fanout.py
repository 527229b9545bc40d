"""The price of a fan-out: one topic to many event streams, over the least that an ASGI application can do.

Run ``python -m benchmarks.fanout --bootstrap HOST:PORT`` from the top of the checkout; the report is Markdown on standard
output. It needs Linux, and ``ulimit -n`` well above the number of clients.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.common import ROOT, markdown_table, median, report
from benchmarks.fanout_source import Acks
from tests.kafka import Cluster
from tests.support.servers import Site, serve

METHOD = """\
Both sides run on granian (one worker), pinned to the same core, and take turns. *Raw* is an ASGI application that holds a
list of ready frames and writes to each client what is new in it; its source is a timer in its own process. *Ours* is a stream
route: Kafka to store to tail to client, with everything that a stream does. The bytes are the same. The clients, all in one
process, and the producer run on the other core with the broker. A delivery is one event at one client. Latency is from the
broker's acknowledgement (raw: from the timer) to the client's read, at a hundred of the clients. Deliveries a second are
counted from the first event on; their ratio says something only where the server is the bottleneck, in the last rows. *CPU per
delivery* is the server process's time, and its ratio is raw's over ours: 1 is as cheap as raw. Taking a record from Kafka to
the streams has a price that does not depend on their number; few clients share it. Memory is the growth of a fresh server's
resident set with idle streams. The storm: every client is dropped, {missed} records come, all clients come back at once and
resume; its time is from a client's connect to its last record. Numbers are medians of the rounds. We aim at a ratio of 0.7 or
more, and at 20 kB or less for an idle stream on top of the server's own."""
_MISSED = 100


@dataclass(frozen=True)
class Side:
    """One of the two servers."""

    name: str
    site: Site
    worker: psutil.Process

    def cpu(self) -> float:
        """Return the CPU seconds it has used."""
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def resident(self) -> int:
        """Return its resident bytes."""
        return int(self.worker.memory_info().rss)


class Load:
    """The process of clients."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        self.begin(do, **options)
        return self.end()

    def begin(self, do: str, **options: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Return the answer."""
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def open(self, side: Side, count: int) -> None:
        """Connect so many clients."""
        host, _, port = side.site.url.removeprefix("http://").partition(":")
        self.ask("open", host=host, port=int(port), count=count)


class Bench:
    """A run."""

    def __init__(self, options: argparse.Namespace, topic: str) -> None:
        self._options = options
        self._topic = topic
        Acks(options.acks)
        self._next = {"ours": 0, "raw": 500_000}
        """The number of each side's next record."""

    def fan_out(self, load: Load, side: Side, clients: int, rate: float) -> dict[str, Any]:
        """Deliver to so many clients at so many records a second."""
        load.open(side, clients)
        self._produce(side, 5, 50)
        load.ask("measure", seconds=10, expected=5 * clients)
        count = max(round(self._options.seconds * rate), 5)
        cpu = side.cpu()
        load.begin("measure", seconds=self._options.seconds * 4 + 10, expected=count * clients)
        self._produce(side, count, rate)
        outcome = load.end()
        outcome["cpu"] = side.cpu() - cpu
        outcome["seconds"] += 1 / rate  # the first record's
        _drop(load, side)
        return outcome

    def storm(self, load: Load, side: Side, clients: int) -> dict[str, Any]:
        """Drop all, produce, and let all come back at once."""
        load.open(side, clients)
        self._produce(side, 5, 50)
        load.ask("measure", seconds=20, expected=5 * clients)
        _drop(load, side)
        time.sleep(1)
        self._produce(side, _MISSED, 200)
        cpu = side.cpu()
        outcome = load.ask("storm", until=self._next[side.name] - 1, missed=_MISSED)
        outcome["cpu"] = side.cpu() - cpu
        _drop(load, side)
        return outcome

    def _produce(self, side: Side, count: int, rate: float) -> None:
        first = self._next[side.name]
        self._next[side.name] += count
        if side.name == "raw":
            query = f"first={first}&count={count}&rate={rate}"
            urllib.request.urlopen(f"{side.site.url}/produce?{query}", timeout=600).close()
            return
        arguments = [self._options.bootstrap, self._topic, str(self._options.acks), str(first), str(count), str(rate)]
        subprocess.run(_pinned(self._options.others, "benchmarks.fanout_source", *arguments), cwd=ROOT, check=True)


def _drop(load: Load, side: Side) -> None:
    load.ask("drop")
    if side.name == "raw":  # ours hears of it by itself
        urllib.request.urlopen(f"{side.site.url}/forget", timeout=60).close()


def main() -> None:
    """Measure and print."""
    options = _options()
    cluster = Cluster(options.bootstrap)
    topic = cluster.create_topic(f"fanout-{uuid.uuid4().hex[:8]}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        stack.callback(cluster.delete_topics, [topic])
        folder = Path(name)
        options.acks = folder / "acks"
        bench = Bench(options, topic)
        sides = [stack.enter_context(_side(each, options, folder, topic)) for each in ("raw", "ours")]
        load = stack.enter_context(_load(options))
        results: dict[str, list[dict[str, Any]]] = {"fan_out": [], "memory": [], "storm": []}
        for number in range(options.rounds):
            _say(f"round {number + 1} of {options.rounds}")
            for each in ("raw", "ours"):
                results["memory"].append({"side": each, "kilobytes": _memory(load, each, options, folder, topic)})
            _round(bench, load, sides, options, results)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))
    print(report("Fan-out", METHOD.format(missed=_MISSED), _tables(results), _summary(results)))


def _round(bench: Bench, load: Load, sides: list[Side], options: argparse.Namespace, results: dict[str, Any]) -> None:
    for clients in options.clients:
        for rate in options.rates:
            for side in sides:
                outcome = bench.fan_out(load, side, clients, rate)
                results["fan_out"].append({"side": side.name, "clients": clients, "rate": rate, **outcome})
                _say(f"{side.name} {clients} x {rate}: {outcome}")
        for side in sides:
            outcome = bench.storm(load, side, clients)
            results["storm"].append({"side": side.name, "clients": clients, **outcome})
            _say(f"{side.name} {clients} storm: {outcome}")


def _memory(load: Load, name: str, options: argparse.Namespace, folder: Path, topic: str) -> float:
    """Return the kilobytes that an idle stream takes in a fresh server."""
    clients = max(options.clients)
    with tempfile.TemporaryDirectory(dir=folder) as own, _side(name, options, Path(own), topic) as side:
        load.open(side, 10)
        load.ask("drop")
        before = side.resident()
        load.open(side, clients)
        time.sleep(1)
        taken: float = (side.resident() - before) / clients / 1000
        load.ask("drop")
    _say(f"{name} memory: {taken:.1f} kB")
    return taken


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--rates", type=float, nargs="+", default=[1, 10, 100])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=1, help="of the servers")
    parser.add_argument("--others", type=int, default=0, help="the core of clients and producer")
    parser.add_argument("--json", help="write every sample to this file")
    return parser.parse_args()


@contextmanager
def _side(name: str, options: argparse.Namespace, folder: Path, topic: str) -> Iterator[Side]:
    env = {
        "FANOUT": name,
        "ACKS": str(options.acks),
        "STORE": str(folder / "store"),
        "BOOTSTRAP": options.bootstrap,
        "TOPIC": topic,
    }
    flags = ("--workers", "1", "--no-ws", "--log-level", "warning", "--backlog", "8192")
    with serve("granian", "benchmarks.fanout_app:application", folder, env=env, options=flags) as site:
        urllib.request.urlopen(f"{site.url}/produce?first=0&count=0&rate=1", timeout=60).close()
        (worker,) = [each for each in psutil.Process(site.process.pid).children(recursive=True) if each.num_threads() > 3]
        for process in (psutil.Process(site.process.pid), worker):
            _pin(process, options.core)
        yield Side(name, site, worker)


def _pin(process: psutil.Process, core: int) -> None:
    for thread in process.threads():
        psutil.Process(thread.id).cpu_affinity([core])


@contextmanager
def _load(options: argparse.Namespace) -> Iterator[Load]:
    command = _pinned(options.others, "benchmarks.fanout_clients", str(options.acks))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield Load(process)
    finally:
        process.terminate()
        process.wait(10)


def _pinned(core: int, module: str, *arguments: str) -> list[str]:
    return ["taskset", "-c", str(core), sys.executable, "-m", module, *arguments]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _summary(results: dict[str, Any]) -> dict[str, Any]:
    return {"rows": [dict(zip(_TITLES, row, strict=True)) for row in _rows(results)]}


_TITLES = [
    "clients",
    "records/s",
    "raw deliveries/s",
    "ours",
    "ratio",
    "raw p50 / p99 ms",
    "ours ",
    "raw µs CPU per delivery",
    "ours  ",
    "ratio ",
]


def _rows(results: dict[str, Any]) -> list[list[str]]:
    rows = []
    for clients, rate in dict.fromkeys((each["clients"], each["rate"]) for each in results["fan_out"]):
        raw, ours = [
            [each for each in results["fan_out"] if (each["side"], each["clients"], each["rate"]) == (side, clients, rate)]
            for side in ("raw", "ours")
        ]
        cheap, dear = _per_delivery(raw), _per_delivery(ours)
        rows.append(
            [
                *(f"{clients:,}", f"{rate:g}", f"{_per_second(raw):,.0f}", f"{_per_second(ours):,.0f}"),
                *(f"{_per_second(ours) / _per_second(raw):.2f}", _latency(raw), _latency(ours)),
                *(f"{cheap:.1f}", f"{dear:.1f}", f"{cheap / dear:.2f}"),
            ]
        )
    return rows


def _per_second(samples: list[dict[str, Any]]) -> float:
    return median(each["events"] / each["seconds"] for each in samples)


def _latency(samples: list[dict[str, Any]]) -> str:
    return " / ".join(f"{median(each[name] for each in samples):.1f}" for name in ("p50_ms", "p99_ms"))


def _per_delivery(samples: list[dict[str, Any]]) -> float:
    return median(each["cpu"] / each["events"] for each in samples) * 1e6


def _tables(results: dict[str, Any]) -> str:
    storms = []
    for clients in dict.fromkeys(each["clients"] for each in results["storm"]):
        sides = [
            [each for each in results["storm"] if (each["side"], each["clients"]) == (side, clients)]
            for side in ("raw", "ours")
        ]
        cells = [f"{median(each['seconds'] for each in side):.2f} s, {_latency(side)}" for side in sides]
        complete = "yes" if all(each["complete"] and each["caught_up"] == clients for side in sides for each in side) else "NO"
        storms.append([f"{clients:,}", *cells, complete])
    taken = {side: median(each["kilobytes"] for each in results["memory"] if each["side"] == side) for side in ("raw", "ours")}
    more = taken["ours"] - taken["raw"]
    return "\n\n".join(
        [
            markdown_table(_TITLES, _rows(results)),
            "## Everybody comes back at once",
            markdown_table(["clients", "raw: all, p50 / p99 ms", "ours", "nothing lost, nothing twice"], storms),
            "## Memory of an idle stream",
            f"raw {taken['raw']:.1f} kB, ours {taken['ours']:.1f} kB: {more:.1f} kB on top of the server's own.",
        ]
    )


if __name__ == "__main__":
    main()
