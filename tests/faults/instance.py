"""One instance of the proxy as a server process: ``uvicorn tests.faults.instance:application``.

``INSTANCE_BOOTSTRAP``, ``INSTANCE_TOPIC`` and ``INSTANCE_STORE`` say what it serves; ``INSTANCE_SETTINGS`` are settings
(JSON, of ``KAFKAPROXY``).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
settings.KAFKAPROXY = {**settings.KAFKAPROXY, **json.loads(os.environ.get("INSTANCE_SETTINGS", "{}"))}
django.setup()

from kafkaproxy.asgi import KafkaProxy  # noqa: E402
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from tests.faults.asking import items  # noqa: E402
from tests.support.proxy import configuration, gateway, site, stream  # noqa: E402

runtime = Runtime(store_dir=Path(os.environ["INSTANCE_STORE"]))
topic = os.environ["INSTANCE_TOPIC"]
(entry,) = items(topic).entries
routes = gateway(*entry.routes, stream("/stream", topic=topic))
runtime.configure(configuration(os.environ["INSTANCE_BOOTSTRAP"], routes))
application = KafkaProxy(site, running=lambda: runtime)
