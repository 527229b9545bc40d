"""The proxy under test: fetches of any topic that a path names, and one sync route; configured by the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from kafkaproxy.asgi import KafkaProxy  # noqa: E402 - after the settings
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from tests.support.proxy import configuration, fetch, gateway, produce, site  # noqa: E402

_runtime: Runtime | None = None


def _running() -> Runtime:
    global _runtime
    if _runtime is None:
        _runtime = Runtime(store_dir=Path(os.environ["STORE"]))
        routes: list[Any] = [
            fetch("GET /topics/{topic}/{id}", topic="${params.topic}", filters=[{"key": "${params.id}"}], name="fetch"),
        ]
        if "REQUESTS" in os.environ:
            both = {"topic": os.environ["REQUESTS"], "reply_to": os.environ["REPLIES"]}
            routes.append(produce("/items/{id}", key="${params.id}", name="ask", **both))
        _runtime.configure(configuration(os.environ["BOOTSTRAP"], gateway(*routes)))
    return _runtime


application = KafkaProxy(site, running=_running)
