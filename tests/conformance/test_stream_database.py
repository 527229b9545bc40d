"""A stream holds no connection to the database: not the one that its route was read with, nor its guard's."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.servers import Site, serve
from tests.support.streams import EventStream, SocketStream

_ROOT = Path(__file__).resolve().parents[2]
_ROUTE = """
from django.contrib.auth.models import User
from django.test import Client
from kafkaproxy.models import *
cluster = Cluster.objects.create(name="kafka", bootstrap_servers="{bootstrap}")
gateway = Gateway.objects.create(name="api", cluster=cluster)
entry, _ = Entry.objects.get_or_create(gateway=gateway, name="all")
route = Route.objects.create(entry=entry, name="events", capability="stream", topic="{topic}")
Condition.objects.create(route=route, path="/events")
guard = Guard.objects.create(name="site", kind="session", options=dict(cache=0))
RouteGuard.objects.create(route=route, guard=guard)
client = Client()
client.force_login(User.objects.create_user("alice"))
print("key=" + client.cookies["sessionid"].value)
"""
# Django's connections belong to threads: all of them are asked, whichever thread made them.
_ASGI = """
import gc, json, threading
from django.core.asgi import get_asgi_application
from django.db.backends.base.base import BaseDatabaseWrapper
from kafkaproxy.asgi import KafkaProxy

site = get_asgi_application()

async def with_connections(scope, receive, send):
    if scope["type"] != "http" or scope["path"] != "/connections":
        return await site(scope, receive, send)
    names = {each.ident: each.name for each in threading.enumerate()}
    wrappers = [each for each in gc.get_objects() if issubclass(type(each), BaseDatabaseWrapper)]
    body = json.dumps([names.get(each._thread_ident, "?") for each in wrappers if each.connection is not None]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

application = KafkaProxy(with_connections)
"""


async def test_a_stream_holds_no_database_connection(kafka: Cluster, topic: TopicFactory, tmp_path: Path) -> None:
    name = topic()
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "KAFKAPROXY_TEST_DIR": str(tmp_path),
        "PYTHONPATH": f"{_ROOT}:{tmp_path}",
    }
    (tmp_path / "streaming_asgi.py").write_text(_ASGI)
    await _manage(env, "migrate", "--verbosity=0")
    printed = await _manage(env, "shell", "--command", _ROUTE.format(bootstrap=kafka.bootstrap, topic=name))
    cookie = {"cookie": "sessionid=" + printed.rpartition("key=")[2].strip()}
    with serve("uvicorn", "streaming_asgi:application", tmp_path, env=env) as site, ExitStack() as stack:
        streams: list[EventStream] = []
        for _ in range(20):
            client = await SocketStream.connect(site.url)
            stack.callback(client.close)
            streams.append(await client.get("/events", cookie))
            assert streams[-1].status == 200
            await streams[-1].more()
        kafka.produce(name, "x")
        for each in streams:
            assert (await each.next()).data == "x"
        await _until_only_the_configuration_is_followed(site)


async def _until_only_the_configuration_is_followed(site: Site) -> None:
    """Wait until no thread has a connection but the one that polls; a stream asks for its session now and then."""
    deadline = time.monotonic() + 60
    async with httpx.AsyncClient(base_url=site.url) as client:
        while set(held := json.loads((await client.get("/connections")).content)) - {"kafkaproxy-configuration"}:
            assert time.monotonic() < deadline, held
            await asyncio.sleep(0.1)
    assert held  # as it says what there is


async def _manage(env: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "django", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
