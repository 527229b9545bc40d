"""The proxy under test: one sync route, configured by the environment, for any ASGI server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from kafkaproxy.asgi import KafkaProxy  # noqa: E402 - after the settings
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from tests.support.proxy import configuration, gateway, produce  # noqa: E402

_runtime: Runtime | None = None


def _running() -> Runtime:
    global _runtime
    if _runtime is None:
        _runtime = Runtime(store_dir=Path(os.environ["STORE"]))
        route = produce("/items/{id}", topic=os.environ["REQUESTS"], key="${params.id}", reply_to=os.environ["REPLIES"])
        _runtime.configure(configuration(os.environ["BOOTSTRAP"], gateway(route)))
    return _runtime


async def _echo(_scope: Any, receive: Any, send: Any) -> None:
    """Answer what no route matches with the body as it came: what HTTP alone costs."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(message["body"]))]})
    await send({"type": "http.response.body", "body": message["body"]})


application = KafkaProxy(_echo, running=_running)
