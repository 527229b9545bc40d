"""A site that starts while its database is away: what may be a route's is to come again, until the database answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.servers import Site, serve

_ROOT: Final = Path(__file__).resolve().parents[2]
_PATIENCE: Final = 60.0
_SETTINGS: Final = """
from tests.settings import *
ROOT_URLCONF = "starting_urls"
KAFKAPROXY = {**KAFKAPROXY, "START_TIMEOUT_SECONDS": 0.5}
"""
_SQLITE: Final = """
DATABASES["default"]["NAME"] = DATABASES["default"]["NAME"].parent / "database" / "db.sqlite3"
"""
_URLS: Final = """
from django.urls import include, path
from tests.urls import urlpatterns
urlpatterns = [*urlpatterns, path("kafkaproxy/", include("kafkaproxy.urls"))]
"""
_ASGI: Final = """
from django.core.asgi import get_asgi_application
from kafkaproxy.asgi import KafkaProxy
application = KafkaProxy(get_asgi_application())
"""
_ROUTES: Final = """
from kafkaproxy.models import *
cluster = Cluster.objects.create(name="main", bootstrap_servers="embedded")
gateway = Gateway.objects.create(name="api", cluster=cluster)
entry, _ = Entry.objects.get_or_create(gateway=gateway, name="all")
for name, capability, method, path in (("put", "produce", "PUT", "/items/{id}"), ("events", "stream", "GET", "/events")):
    route = Route.objects.create(entry=entry, name=name, capability=capability, topic="items")
    Condition.objects.create(route=route, method=method, path=path)
"""
_MOVE: Final = """
from kafkaproxy.models import Condition
each = Condition.objects.get(route__name="put")
each.path = "/moved/{id}"
each.save()
"""


class Instance:
    """A site in a folder, with its database in a folder of its own that comes and goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "database"
        self.away = folder / "away"
        self.env = {
            "DJANGO_SETTINGS_MODULE": "starting_settings",
            "KAFKAPROXY_TEST_DIR": str(folder),
            "PYTHONPATH": f"{_ROOT}:{folder}",
        }
        (folder / "starting_settings.py").write_text(_SETTINGS + _SQLITE)
        (folder / "starting_urls.py").write_text(_URLS)
        (folder / "starting_asgi.py").write_text(_ASGI)
        self.database.mkdir()

    def manage(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "django", *arguments]
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def prepare(self) -> None:
        self.manage("migrate", "--verbosity=0")
        self.manage("shell", "--command", _ROUTES)

    def take_away(self) -> None:
        self.database.rename(self.away)

    def bring_back(self) -> None:
        self.away.rename(self.database)

    @property
    def kept(self) -> list[Path]:
        return list((self.folder / "store" / "_configuration").glob("*.jsonl"))


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


def until(site: Site, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, site.log[-3000:]
        time.sleep(0.05)


def put(site: Site, path: str) -> int:
    return httpx.put(f"{site.url}{path}", content=b"{}", timeout=_PATIENCE).status_code


def event_source(site: Site) -> int:
    """Ask as a browser's EventSource does; return the status."""
    with httpx.stream("GET", f"{site.url}/events", headers={"accept": "text/event-stream"}, timeout=_PATIENCE) as response:
        return response.status_code


def assert_is_to_come_again(site: Site) -> None:
    for method, fields in (("PUT", {}), ("GET", {"accept": "text/event-stream"})):
        response = httpx.request(method, f"{site.url}/items/a", headers=fields, timeout=_PATIENCE)
        assert response.status_code == 503, site.log[-3000:]
        assert response.headers["retry-after"] == "1"
        assert response.json()["type"] == "urn:kafkaproxy:problem:not-configured-yet"
    assert event_source(site) == 503
    assert httpx.get(f"{site.url}/kafkaproxy/ready", timeout=_PATIENCE).status_code == 503
    assert httpx.get(f"{site.url}/", timeout=_PATIENCE).text == "site GET /"  # a health check, say


@pytest.mark.parametrize("server", ["granian", "uvicorn", "hypercorn", "daphne"])
def test_a_site_that_starts_without_its_database_serves_as_soon_as_that_is_there(server: str, instance: Instance) -> None:
    instance.prepare()
    instance.take_away()
    with serve(server, "starting_asgi:application", instance.folder, env=instance.env) as site:
        assert_is_to_come_again(site)
        instance.bring_back()
        until(site, lambda: put(site, "/items/a") == 204)
        until(site, lambda: event_source(site) == 200)
        assert httpx.get(f"{site.url}/kafkaproxy/ready").status_code == 200
        assert httpx.get(f"{site.url}/nothing").status_code == 404


def test_a_site_that_restarts_without_its_database_serves_what_it_served(instance: Instance) -> None:
    instance.prepare()
    with serve("granian", "starting_asgi:application", instance.folder, env=instance.env) as site:
        until(site, lambda: put(site, "/items/a") == 204)
        until(site, lambda: bool(instance.kept))
    instance.take_away()
    with serve("granian", "starting_asgi:application", instance.folder, env=instance.env) as site:
        assert put(site, "/items/a") == 204, site.log[-3000:]
        assert httpx.get(f"{site.url}/nothing").status_code == 404
        assert httpx.get(f"{site.url}/kafkaproxy/ready").status_code == 200
        assert "kept_configuration_in_service" in site.log
        until(site, lambda: event_source(site) == 200)
        instance.bring_back()
        instance.manage("shell", "--command", _MOVE)
        until(site, lambda: put(site, "/moved/a") == 204)
        assert put(site, "/items/a") == 404


def test_a_site_that_was_not_migrated_is_there_and_has_no_routes(instance: Instance) -> None:
    with serve("uvicorn", "starting_asgi:application", instance.folder, env=instance.env) as site:
        assert put(site, "/items/a") == 404
        assert "run manage.py migrate" in site.log
        instance.prepare()
        until(site, lambda: put(site, "/items/a") == 204)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing, as a database behind a broken network may."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for each in held:
        each.close()


@pytest.mark.parametrize("server", ["uvicorn", "daphne"])
def test_a_database_that_never_answers_holds_up_neither_requests_nor_the_stop(
    server: str, instance: Instance, silent_server: int
) -> None:
    pytest.importorskip("psycopg")
    postgresql = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": str(silent_server), "NAME": "x"}
    (instance.folder / "starting_settings.py").write_text(f'{_SETTINGS}\nDATABASES = {{"default": {postgresql!r}}}\n')
    with serve(server, "starting_asgi:application", instance.folder, env=instance.env) as site:
        assert_is_to_come_again(site)
        assert "The database does not answer." in site.log
        site.process.terminate()
        site.process.wait(_PATIENCE)
