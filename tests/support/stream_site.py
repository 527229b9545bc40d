"""A site with streams, for servers to run: ``uvicorn tests.support.stream_site:application``.

``STREAM_BOOTSTRAP`` and ``STREAM_STORE`` say what it serves, ``STREAM_SETTINGS`` changes settings (JSON). ``/any/{topic}``
streams a topic, ``/latest/{topic}`` its new records; ``/count`` belongs to the wrapped site and says how many streams are open,
``/places`` how many are open or being opened, which takes ``STREAM_OPENING_SECONDS`` longer than it has to.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
settings.KAFKAPROXY = {**settings.KAFKAPROXY, **json.loads(os.environ.get("STREAM_SETTINGS", "{}"))}
django.setup()

from kafkaproxy.asgi import KafkaProxy  # noqa: E402
from kafkaproxy.consumers import stream as stream_module  # noqa: E402
from kafkaproxy.routing.table import AccessControl  # noqa: E402
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from kafkaproxy.streaming import start_position  # noqa: E402
from tests.support.proxy import configuration, gateway, stream  # noqa: E402

runtime = Runtime(store_dir=Path(os.environ["STREAM_STORE"]))
_routes = gateway(
    stream("/any/{topic}", topic="${params.topic}"),
    stream("/latest/{topic}", topic="${params.topic}", start="latest", name="latest"),
    access_control=AccessControl(policy="cross-origin"),
)
runtime.configure(configuration(os.environ["STREAM_BOOTSTRAP"], _routes))


_resolve_start = start_position.resolve_start_position


async def resolve_start_position(*where: Any) -> Any:
    """Take longer than it has to."""
    await asyncio.sleep(float(os.environ.get("STREAM_OPENING_SECONDS", "0")))
    return await _resolve_start(*where)


vars(stream_module)["resolve_start_position"] = resolve_start_position


async def count(scope: Any, _receive: Any, send: Any) -> None:
    """Say how many streams are open."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # as Django says that it has no lifespan
    body = str(runtime.streams._slots if scope["path"] == "/places" else len(runtime.streams)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


application = KafkaProxy(count, running=lambda: runtime)
