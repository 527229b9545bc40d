"""A site with a guarded stream, for servers to run: ``granian --interface asgi tests.support.guarded_site:application``.

``STREAM_BOOTSTRAP``, ``STREAM_STORE`` and ``STREAM_SETTINGS`` as in ``tests.support.stream_site``; processes with the same
``GUARDED_CACHE``, a folder, share Django's cache. ``/news/{topic}`` streams a topic to clients with the role ``read:stream``; a
stream is challenged five seconds before its end. ``/count`` says how many streams are open.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
settings.KAFKAPROXY = {**settings.KAFKAPROXY, **json.loads(os.environ.get("STREAM_SETTINGS", "{}"))}
settings.CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": os.environ["GUARDED_CACHE"],
    }
}
django.setup()

from kafkaproxy.asgi import KafkaProxy  # noqa: E402
from kafkaproxy.routing.table import GuardConfig  # noqa: E402
from kafkaproxy.serving.runtime import Runtime  # noqa: E402
from tests.support.guarded import EVERYWHERE  # noqa: E402
from tests.support.proxy import configuration, gateway, stream  # noqa: E402
from tests.support.tokens import jwk, options  # noqa: E402

runtime = Runtime(store_dir=Path(os.environ["STREAM_STORE"]))
_news = stream("/news/{topic}", topic="${params.topic}", guarded={"g": ["read:stream"]})
_guard = GuardConfig(name="g", kind="jwt", options=options(jwk("HS256"), challenge=5))
runtime.configure(
    replace(configuration(os.environ["STREAM_BOOTSTRAP"], gateway(_news, credentials=EVERYWHERE)), guards={"g": _guard})
)


async def count(scope: Any, _receive: Any, send: Any) -> None:
    """Say how many streams are open."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # as Django says that it has no lifespan
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(len(runtime.streams)).encode()})


application = KafkaProxy(count, running=lambda: runtime)
