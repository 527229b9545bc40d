"""The demo site on PostgreSQL: the server that ``POSTGRESQL_URL`` names, as compose.yaml's, or one of the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import psycopg
import pytest

from tests.support.postgresql import NoPostgresql, postgresql
from tests.support.servers import Site, serve

_ROOT: Final = Path(__file__).resolve().parents[2]
_PREPARE: Final = """
from kafkaproxy.models import Gateway
from project.prepare import import_samples
import_samples()
Gateway.objects.exclude(name="crud").update(enabled=False)
"""
_MOVE: Final = """
from kafkaproxy.models import Condition
for each in Condition.objects.filter(route__entry__gateway__name="crud"):
    each.path = each.path.replace("/items", "/items/moved")
    each.save()
"""


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a server on which databases may be created: ``postgres://user:password@host/name``."""
    given = os.environ.get("POSTGRESQL_URL")
    if given:
        yield given
        return
    try:
        with postgresql() as url:
            yield url
    except NoPostgresql as reason:
        if os.environ.get("KAFKAPROXY_REQUIRE_POSTGRESQL") == "1":
            pytest.fail(str(reason))
        pytest.skip(f"no PostgreSQL: {reason}, and POSTGRESQL_URL is not set")


@pytest.fixture
def environment(server_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a site with a database of its own."""
    name = f"kafkaproxy_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield {
                "DATABASE_URL": f"{server_url.rpartition('/')[0]}/{name}",
                "KAFKAPROXY_STORE_DIR": str(tmp_path / "store"),
                "KAFKA_BOOTSTRAP_SERVERS": "embedded",
                "DJANGO_SETTINGS_MODULE": "project.settings",
                "DJANGO_SECRET_KEY": "of a test",
            }
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def manage(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=_ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def until(site: Site, path: str, status: int) -> None:
    deadline = time.monotonic() + 90
    while httpx.put(f"{site.url}{path}", content=b"{}").status_code != status:
        assert time.monotonic() < deadline, site.log[-2000:]
        time.sleep(0.05)


def test_a_site_on_postgresql_follows_a_change_in_every_process(environment: dict[str, str], tmp_path: Path) -> None:
    manage(environment, "migrate", "--verbosity=0")
    manage(environment, "makemigrations", "--check", "--dry-run")
    manage(environment, "shell", "--command", _PREPARE)
    manage(environment, "check", "--database", "default", "--fail-level", "WARNING")
    options = {"env": environment, "cwd": _ROOT}
    with (
        serve("granian", "project.asgi:application", tmp_path, **options) as one,  # type: ignore[arg-type]
        serve("daphne", "project.asgi:application", tmp_path, **options) as other,  # type: ignore[arg-type]
    ):
        for site in (one, other):
            until(site, "/items/a", 204)
            until(site, "/items/moved/a", 404)
        manage(environment, "shell", "--command", _MOVE)
        for site in (one, other):
            until(site, "/items/moved/a", 204)
