"""What the benchmarks share: the facts of the host, percentiles, tables, ``wrk``, topics and a second process."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka

__all__ = ["helper", "host_facts", "markdown_table", "median", "percentile", "report", "wrk"]

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("Django", "confluent-kafka", "granian", "kafkaproxy", "lmdb", "uvloop")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


def host_facts() -> dict[str, Any]:
    """Return what the numbers depend on; nothing that names the machine."""
    installed = {each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions()}
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        **{name: installed[name.lower()] for name in _PACKAGES if name.lower() in installed},
    }


def percentile(samples: Iterable[float], share: float) -> float:
    """Return the smallest sample that ``share`` (0 to 1) of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


def median(samples: Iterable[float]) -> float:
    """Return the middle one."""
    return percentile(samples, 0.5)


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Render a table."""
    lines = [titles, ["---"] * len(titles), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(title: str, method: str, table: str, results: Mapping[str, Any]) -> str:
    """Render the Markdown page of a run: title, method, host, table, and the numbers as JSON."""
    facts = ", ".join(f"{name} {value}" for name, value in host_facts().items())
    numbers = json.dumps(results, indent=1)
    return f"# {title}\n\n{method}\n\nHost: {facts}.\n\n{table}\n\n```json\n{numbers}\n```\n"


def wrk(url: str, connections: int, seconds: float, script: str, folder: Path) -> dict[str, float]:
    """Load ``url`` and return requests/s, p50 and p99 in milliseconds, and the number of answers that were not 2xx or 3xx."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: install it (apt-get install wrk), then run this again.")
    lua = folder / "wrk.lua"
    lua.write_text(script)
    options = ["-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "--timeout", "30s", "-s", str(lua)]
    shown = subprocess.run(["wrk", *options, url], capture_output=True, text=True, check=True).stdout
    latency = {share: _milliseconds(shown, share) for share in ("50%", "99%")}
    rate = re.search(r"Requests/sec:\s*([\d.]+)", shown)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", shown)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", shown)
    assert rate is not None
    errors = int(bad[1]) if bad else 0
    errors += sum(int(each) for each in broken.groups()) if broken else 0
    return {"per_second": float(rate[1]), "p50_ms": latency["50%"], "p99_ms": latency["99%"], "errors": errors}


def _milliseconds(shown: str, share: str) -> float:
    found = re.search(rf"\n\s*{share}\s*([\d.]+)(us|ms|s|m)\b", shown)
    assert found is not None, shown
    return float(found[1]) * _UNITS[found[2]]


@contextmanager
def helper(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module of ours in another process until the block ends; it prints a line when it is ready."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"{module} ended before it was ready")
        yield process
    finally:
        process.terminate()
        process.wait(10)
