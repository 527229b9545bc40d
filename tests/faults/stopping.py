"""A site for tests of stops, for servers to run: ``uvicorn tests.faults.stopping:application``.

``INSTANCE_BOOTSTRAP``, ``INSTANCE_TOPIC``, ``INSTANCE_REPLIES`` and ``INSTANCE_STORE`` say what it serves. On a server without
lifespan it stops at the end of the process, as a runtime that reads its configuration from the database does.
"""

from __future__ import annotations

import atexit
import logging
import os
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from kafkaproxy.asgi import KafkaProxy  # noqa: E402
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from tests.faults.asking import items  # noqa: E402
from tests.support.proxy import configuration, gateway, produce, site, stream  # noqa: E402

logging.basicConfig(level=logging.INFO)
runtime = Runtime(store_dir=Path(os.environ["INSTANCE_STORE"]))
topic = os.environ["INSTANCE_TOPIC"]
(entry,) = items(topic).entries
routes = gateway(
    *entry.routes,
    stream("/stream", topic=topic),
    produce("POST /sync", topic=topic, reply_to=os.environ["INSTANCE_REPLIES"], timeout=60, name="sync"),
)
runtime.configure(configuration(os.environ["INSTANCE_BOOTSTRAP"], routes))
application = KafkaProxy(site, running=lambda: runtime)
atexit.register(runtime.stop)
