"""What happens in this process right now, as a page shows it."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from kafkaproxy.metrics import BROKER_UP, RECORDS, RESPONSES
from kafkaproxy.serving.runtime import Runtime, Table
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import TopicUnavailable
from kafkaproxy.worker.store.writer_lock import writer_pid

__all__ = ["snapshot"]

_MOST_ROUTES: Final = 100


def snapshot(running: Runtime) -> dict[str, Any]:
    """Return the numbers; touches neither database nor Kafka. ``at`` is a clock in seconds that only moves on."""
    table = running.table
    routes = sorted(_routes(), key=lambda row: (-row["5xx"], -row["4xx"], row["gateway"], row["route"]))
    return {
        "at": time.monotonic(),
        "process": f"{socket.gethostname()}, {os.getpid()}",
        "serving": table is not None and table.configuration.known,
        "streams": len(running.streams),
        "waiting": running.worker.waiting,
        "produced": sum(cell.value for (_, outcome), cell in list(RECORDS.cells.items()) if outcome == "acknowledged"),
        "failed": sum(cell.value for (_, outcome), cell in list(RECORDS.cells.items()) if outcome != "acknowledged"),
        "responses": sum(cell.value for cell in list(RESPONSES.cells.values())),
        "routes": routes[:_MOST_ROUTES],
        "left_out": max(len(routes) - _MOST_ROUTES, 0),
        "clusters": [] if table is None else [_cluster(running, table, name) for name in sorted(table.configuration.clusters)],
    }


def _routes() -> Iterator[dict[str, Any]]:
    """Yield the routes that answered, with their answers by class."""
    found: dict[tuple[str, str, str], Counter[str]] = {}
    for (gateway, route, capability, status), cell in list(RESPONSES.cells.items()):
        found.setdefault((gateway, route, capability), Counter())[status] += cell.value
    for (gateway, route, capability), counts in found.items():
        if counts.total():
            by_class = {each: counts[each] for each in ("2xx", "3xx", "4xx", "5xx")}
            yield {"gateway": gateway, "route": route, "capability": capability, **by_class}


def _cluster(running: Runtime, table: Table, name: str) -> dict[str, Any]:
    broker = BROKER_UP.cells.get((name,))
    row = {"name": name, "error": table.configuration.clusters[name].error, "broker": None if broker is None else broker.value}
    try:
        return {**row, **_worker(running.worker.cluster(name))}
    except TopicUnavailable as error:
        return {**row, "error": row["error"] or error.detail}


def _worker(cluster: ClusterWorker) -> dict[str, Any]:
    states = list(cluster.topics().values())
    return {
        "writer": writer_pid(cluster.store.path),
        "own": cluster.ingest is not None and cluster.ingest.writing,
        "topics": len(states),
        "ready": sum(state.ready and not state.error for state in states),
        "errors": sorted(f"{state.name}: {state.error}" for state in states if state.error)[:10],
    }
