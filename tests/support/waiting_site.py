"""A site whose routes wait, for servers to run: ``uvicorn tests.support.waiting_site:application``.

``WAITING_BOOTSTRAP`` and ``WAITING_STORE`` say what it serves, ``WAITING_TOPICS`` its topics (JSON: ``items``, ``requests`` and
``replies``). ``/state`` belongs to the wrapped site and answers with JSON: how many requests wait (``waiting``) and are being
served (``users``), how many streams are open or being opened (``places``), and how often ``ClientGone`` was raised (``gone``).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from kafkaproxy.asgi import KafkaProxy  # noqa: E402
from kafkaproxy.http.request import ClientGone  # noqa: E402
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from tests.support.proxy import CLUSTER, configuration, fetch, gateway, produce, stream  # noqa: E402

topics = json.loads(os.environ["WAITING_TOPICS"])
_service = {"topic": topics["requests"], "reply_to": topics["replies"], "key": "${params.id}"}
_accepted = {"location": "/accepted/${params.id};${correlationId}"}
_routes = gateway(
    fetch("GET /items/{id}", topic=topics["items"], filters=[{"key": "${params.id}"}], name="one"),
    fetch("GET /items", topic=topics["items"], merge=True, name="all"),
    produce("PUT /sync/{id}", name="sync", **_service),
    produce("PUT /async/{id}", name="async", async_=_accepted, **_service),
    fetch("GET /any/{topic}", topic="${params.topic}", name="any"),
    stream("/stream/{topic}", topic="${params.topic}"),
)
runtime = Runtime(store_dir=Path(os.environ["WAITING_STORE"]))
runtime.configure(configuration(os.environ["WAITING_BOOTSTRAP"], _routes))
gone: list[None] = []


def _count(self: ClientGone, *_: object) -> None:
    gone.append(None)


ClientGone.__init__ = _count  # type: ignore[method-assign,assignment]


async def state(scope: Any, _receive: Any, send: Any) -> None:
    """Answer with what goes on."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # as Django says that it has no lifespan
    numbers = {
        "waiting": runtime.worker.waiting,
        "users": len(runtime.worker.users(CLUSTER)),
        "places": runtime.streams._slots,
        "gone": len(gone),
    }
    body = json.dumps(numbers).encode()
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


application = KafkaProxy(state, running=lambda: runtime)
