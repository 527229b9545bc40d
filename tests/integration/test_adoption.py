"""An existing site adopts kafkaproxy with the three lines of the README, on every server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.kafka import Cluster
from tests.support.servers import SERVERS, Site, serve

# The site has settings of its own, and finds our package as if it were installed.
_ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": None, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}

# What the site had before: Django, and a WebSocket of its own beside it.
_ECHO = """
class WithEcho:
    def __init__(self, django):
        self.django = django

    async def __call__(self, scope, receive, send):
        if scope["type"] != "websocket":
            return await self.django(scope, receive, send)
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "echo " + event["text"]})
"""

_PAGE = """
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

async def page(request, rest=""):
    return HttpResponse(f"the site's own: {request.method} {request.get_full_path()} {request.body.decode()}")

@csrf_exempt
async def upload(request):
    return HttpResponse(f"{len(request.body)} bytes")

urlpatterns = [path("", page), path("upload", upload), path("<path:rest>", page)]
"""

_ROUTE = """
from kafkaproxy.models import *
cluster = Cluster.objects.create(name="kafka", bootstrap_servers="${{env.BROKER}}")
gateway = Gateway.objects.create(name="api", cluster=cluster)
entry, _ = Entry.objects.get_or_create(gateway=gateway, name="all")
write = Route.objects.create(entry=entry, name="write", capability="produce", topic="%(topic)s", key="${params.id}")
Condition.objects.create(route=write, path="/api/items/{id}")
read = Route.objects.create(entry=entry, name="read", capability="fetch", topic="%(topic)s", position=1)
Condition.objects.create(route=read, path="/api/items/{id}")
Filter.objects.create(route=read, key="${params.id}")
"""


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory, kafka: Cluster) -> Iterator[Path]:
    """A bare ``startproject`` that does what the README says, with one gateway."""
    folder = tmp_path_factory.mktemp("site")
    _run(folder, "-m", "django", "startproject", "mysite", ".")
    with (folder / "mysite/settings.py").open("a") as settings:
        settings.write("\nALLOWED_HOSTS = ['127.0.0.1']\nINSTALLED_APPS += ['kafkaproxy']\n")
        settings.write("KAFKAPROXY = {'STORE_DIR': BASE_DIR / 'store'}\n")
    (folder / "mysite/urls.py").write_text(_PAGE)
    asgi = folder / "mysite/asgi.py"
    before = asgi.read_text()
    asgi.write_text(
        before.replace(
            "from django.core.asgi import get_asgi_application",
            f"from django.core.asgi import get_asgi_application\nfrom kafkaproxy.asgi import KafkaProxy\n{_ECHO}",
        ).replace("application = get_asgi_application()", "application = KafkaProxy(WithEcho(get_asgi_application()))")
    )
    assert asgi.read_text() != before
    _run(folder, "manage.py", "migrate", "--verbosity=0")
    topic = kafka.create_topic(f"adopted-{uuid.uuid4().hex[:8]}", 2, {"cleanup.policy": "compact"})
    (folder / "topic").write_text(topic)
    _run(folder, "manage.py", "shell", "--command", _ROUTE % {"topic": topic})
    yield folder
    kafka.delete_topics([topic])


@pytest.fixture(scope="module", params=sorted(SERVERS))
def site(request: pytest.FixtureRequest, adopted: Path, kafka: Cluster) -> Iterator[Site]:
    env = {"BROKER": kafka.bootstrap, **_ENVIRONMENT}
    with serve(request.param, "mysite.asgi:application", adopted, cwd=adopted, env=env) as running:
        yield running


def test_the_sites_pages_are_untouched(site: Site) -> None:
    page = httpx.get(f"{site.url}/any/page?q=a%20b")
    assert (page.status_code, page.text) == (200, "the site's own: GET /any/page?q=a%20b ")
    posted = httpx.post(f"{site.url}/form", content=b"x" * 200_000, headers={"content-type": "text/plain"})
    # Django's own protection against cross-site forms still stands before the site's view.
    assert (posted.status_code, "CSRF" in posted.text) == (403, True)
    exempt = httpx.post(f"{site.url}/upload", content=b"x" * 200_000, headers={"content-type": "text/plain"})
    assert exempt.text == "200000 bytes"


def test_the_sites_websockets_are_untouched(site: Site) -> None:
    with connect(site.url.replace("http", "ws", 1) + "/any/socket") as socket:
        socket.send("hello")
        assert socket.recv(timeout=10) == "echo hello"


def test_a_route_writes_and_reads(site: Site, adopted: Path, kafka: Cluster) -> None:
    key = f"key-{uuid.uuid4().hex[:8]}"
    body = {"from": site.url}
    written = httpx.put(f"{site.url}/api/items/{key}", json=body, timeout=30)
    assert (written.status_code, written.content) == (204, b"")
    (record,) = [each for each in kafka.consume((adopted / "topic").read_text()) if each.key == key]
    assert record.value is not None
    assert json.loads(record.value) == body
    read = httpx.get(f"{site.url}/api/items/{key}", timeout=30)
    assert (read.status_code, read.json(), read.headers["content-type"]) == (200, body, "application/json")
    again = httpx.get(f"{site.url}/api/items/{key}", headers={"if-none-match": read.headers["etag"]}, timeout=30)
    assert (again.status_code, again.content) == (304, b"")


def _run(folder: Path, *arguments: str) -> None:
    environment = {name: value for name, value in {**os.environ, **_ENVIRONMENT}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
