"""One instance of the proxy with a sync route, as a server process: ``uvicorn tests.faults.reply_instance:application``.

``INSTANCE_BOOTSTRAP``, ``INSTANCE_REQUESTS``, ``INSTANCE_REPLIES`` and ``INSTANCE_STORE`` say what it serves, at
``INSTANCE_PATH`` or ``/items/{id}``. Every other path answers with the number of requests that wait.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from kafkaproxy.asgi import KafkaProxy  # noqa: E402
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from tests.support.proxy import configuration, gateway, produce  # noqa: E402

route = produce(
    os.environ.get("INSTANCE_PATH", "/items/{id}"),
    topic=os.environ["INSTANCE_REQUESTS"],
    key="${params.id}",
    reply_to=os.environ["INSTANCE_REPLIES"],
)
runtime = Runtime(store_dir=Path(os.environ["INSTANCE_STORE"]))
runtime.configure(configuration(os.environ["INSTANCE_BOOTSTRAP"], gateway(route)))


async def waiting(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer how many requests wait."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"%d" % runtime.worker.waiting})


application = KafkaProxy(waiting, running=lambda: runtime)
