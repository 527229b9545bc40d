"""The applications that ``benchmarks.rest`` compares; ``BENCH_APP`` says which one ``app`` is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from kafkaproxy.asgi import KafkaProxy  # noqa: E402
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from kafkaproxy.worker.types import Acks  # noqa: E402
from tests.support.proxy import CLUSTER, configuration, fetch, gateway, produce, site  # noqa: E402

SERVERS = os.environ["BENCH_SERVERS"]
TOPIC = os.environ["BENCH_TOPIC"]
BODY = b'{"greeting":"Hello, world"}'
FIELDS = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache"), (b"etag", b'"AQQDgOCg6g8AAg=="')]

_runtime: Runtime | None = None


def running() -> Runtime:
    """Return the runtime of this process, started on first use: servers fork."""
    global _runtime
    if _runtime is None:
        routes = gateway(
            fetch("GET /items/{id}", topic=TOPIC, filters=[{"key": "${params.id}"}]),
            produce("POST /events", topic=f"{TOPIC}-events"),
        )
        _runtime = Runtime(store_dir=Path(os.environ["BENCH_DIR"]))
        _runtime.configure(configuration(SERVERS, routes))
    return _runtime


async def raw(scope: Any, _receive: Any, send: Any) -> None:
    """Hello world: as many bytes and fields as our answer has, and nothing else."""
    status = 304 if any(name == b"if-none-match" for name, _ in scope["headers"]) else 200
    body = b"" if status == 304 else BODY
    await send({"type": "http.response.start", "status": status, "headers": FIELDS})
    await send({"type": "http.response.body", "body": body})


async def stub(_scope: Any, receive: Any, send: Any) -> None:
    """Produce the body and await its delivery report, and nothing else."""
    message = await receive()
    cluster = running().worker.cluster(CLUSTER)
    headers = (("content-type", b"application/json"),)
    await cluster.send(Acks.IN_SYNC_REPLICAS, f"{TOPIC}-events", None, message["body"], headers)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


app = {"raw": raw, "stub": stub, "proxy": KafkaProxy(site, running=running)}[os.environ["BENCH_APP"]]
