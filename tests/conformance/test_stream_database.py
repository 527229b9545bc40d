"""A stream whose route is in the database holds no connection to it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.servers import Site, serve
from tests.streams import EventStream, SocketStream

_ROOT = Path(__file__).resolve().parents[2]
_ROUTE = """
from kafkaproxy.models import *
cluster = Cluster.objects.create(name="kafka", bootstrap_servers="{bootstrap}")
gateway = Gateway.objects.create(name="api", cluster=cluster)
entry, _ = Entry.objects.get_or_create(gateway=gateway, name="all")
route = Route.objects.create(entry=entry, name="events", capability="stream", topic="{topic}")
Condition.objects.create(route=route, path="/events")
"""
_ASGI = """
from django.core.asgi import get_asgi_application
from kafkaproxy.asgi import KafkaProxy
application = KafkaProxy(get_asgi_application())
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
    await _manage(env, "shell", "--command", _ROUTE.format(bootstrap=kafka.bootstrap, topic=name))
    database = tmp_path / "db.sqlite3"
    with serve("uvicorn", "streaming_asgi:application", tmp_path, env=env) as site, ExitStack() as stack:
        streams: list[EventStream] = []
        few = await _with_streams(site, streams, 2, stack, kafka, name, database)
        many = await _with_streams(site, streams, 40, stack, kafka, name, database)
        assert many < few + 5  # the site's own threads come and go; there are 38 streams more


async def _with_streams(
    site: Site, streams: list[EventStream], count: int, stack: ExitStack, kafka: Cluster, topic: str, database: Path
) -> int:
    """Open more streams, see each deliver, and return how often the database is open in the server then."""
    while len(streams) < count:
        client = await SocketStream.connect(site.url)
        stack.callback(client.close)
        streams.append(await client.get("/events"))
        await streams[-1].more()
    kafka.produce(topic, f"to {count}")
    for each in streams:
        while (await each.next()).data != f"to {count}":
            pass
    return _handles(site.process.pid, database)


def _handles(pid: int, path: Path) -> int:
    return sum(Path(each.path) == path for each in psutil.Process(pid).open_files())


async def _manage(env: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "django", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
