"""The commands and files of ``docs/how-to/deploy.md``, as they stand there: many streams, a worker that dies, a stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from tests.kafka import Cluster
from tests.support.demo import demo_site
from tests.support.recipes import COMMANDS, RECIPES, UNIT, command_on, kubernetes, option
from tests.support.servers import Site, free_port, run

ROOT: Final = Path(__file__).resolve().parents[2]
STREAMS: Final = 1_300
"""More than Granian takes by default, and more than two workers with :data:`OPEN_FILES` could hold."""
OPEN_FILES: Final = 256
WAIT: Final = 60.0
PREPARE: Final = """
import os, django
django.setup()
from django.core.management import call_command
from project.prepare import import_samples, set_up_topics
call_command("migrate", verbosity=0)
import_samples()
set_up_topics(os.environ["KAFKA_BOOTSTRAP_SERVERS"])
"""
RESPAWN: Final = [name for name in RECIPES if name not in ("daphne", "hypercorn")]

Serve = Callable[..., contextlib.AbstractContextManager[Site]]


@pytest.fixture(scope="module")
def environment(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a site that is ready to be served: the demo's, with its sample gateways."""
    folder = tmp_path_factory.mktemp("site")
    environment = {
        "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
        "KAFKAPROXY_STORE_DIR": str(folder / "store"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DJANGO_SECRET_KEY": "of a test",
    }
    command = [sys.executable, "-c", PREPARE]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kafka.produce("events", "{}")
    return environment


@pytest.fixture
def serve(environment: dict[str, str], tmp_path: Path) -> Serve:
    """Run a command for the site: ``with serve(command, open_files=None)``."""

    @contextmanager
    def serve(command: Sequence[str], *, open_files: int | None = None, **variables: str) -> Iterator[Site]:
        port = free_port()
        line = command_on(command, "project.asgi:application", port)
        with run(line, port, tmp_path, env={**environment, **variables}, cwd=ROOT, open_files=open_files) as site:
            yield site
            if site.process.poll() is None:  # a worker of Granian that is told to stop while it starts goes on
                until_started(site, processes(line))

    return serve


@pytest.fixture(autouse=True)
def _many_clients() -> Iterator[None]:
    """Each client takes an open file of this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 2 * STREAMS:
        pytest.skip(f"the hard limit of open files is {before[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2 * STREAMS), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.asynccontextmanager
async def stream(url: str) -> AsyncIterator[tuple[bytes, asyncio.StreamReader]]:
    """Open a stream on a connection of its own; yield the line with the status, and what reads the rest."""
    address = httpx.URL(url)
    async with asyncio.timeout(WAIT):
        reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(b"GET /stream HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n")
        async with asyncio.timeout(WAIT):
            line = await reader.readline()
        yield line, reader
    finally:
        writer.close()


async def open_many(url: str) -> None:
    """Open streams, a few at a time, and ask for a page while they are open."""
    places = asyncio.Semaphore(50)

    async def enter(stack: contextlib.AsyncExitStack) -> bytes:
        async with places:
            return (await stack.enter_async_context(stream(url)))[0]

    async with contextlib.AsyncExitStack() as stack:
        await until_served(url)
        lines = await asyncio.gather(*(enter(stack) for _ in range(STREAMS)))
        assert {line[:12] for line in lines} == {b"HTTP/1.1 200"}
        async with httpx.AsyncClient(timeout=WAIT) as client:
            assert (await client.get(url)).status_code == 200


async def until_served(url: str) -> None:
    """Wait until the stream's topic was read, in every process that answers."""
    deadline = time.monotonic() + WAIT
    good = 0
    while good < 20:
        async with stream(url) as (line, _):
            good = good + 1 if b" 200 " in line else 0
        assert time.monotonic() < deadline, line


def workers(site: Site) -> set[int]:
    """Return the processes below the server's that serve."""
    children = psutil.Process(site.process.pid).children(recursive=True)
    found = set()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def until(condition: Callable[[], object], site: Site) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, site.log[-4000:]
        time.sleep(0.1)


def processes(command: Sequence[str]) -> int:
    """Return how many processes serve: without workers, the server's own."""
    return max(option(command, "--workers"), 1) if "--workers" in command else 1


def until_started(site: Site, number: int) -> None:
    """Wait until so many processes have been ready since the beginning."""
    until(lambda: site.log.count(" cluster_started ") >= number, site)


def is_served(site: Site) -> bool:
    """Return True if requests are answered on new connections, one after the other."""
    try:
        return all(httpx.get(f"{site.url}/items/none").status_code == 404 for _ in range(10))
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
async def test_more_streams_than_a_server_or_the_soft_limit_takes_by_default(serve: Serve, name: str) -> None:
    with serve(COMMANDS[name], open_files=OPEN_FILES) as site:
        await open_many(site.url)
        assert f"of={name}" not in site.log


@pytest.mark.slow
async def test_more_streams_on_the_demo(kafka: Cluster, tmp_path: Path) -> None:
    with demo_site(tmp_path, kafka.bootstrap, open_files=OPEN_FILES) as (url, _process, _log):
        await open_many(url.rstrip("/"))


@pytest.mark.parametrize(
    ("command", "variables", "line"),
    [
        ("granian --interface asgi --workers 2 mysite.asgi:application", {}, "limit=512 of=granian"),
        ("granian --interface asgi mysite.asgi:application", {"GRANIAN_BACKPRESSURE": "300"}, "limit=300 of=granian"),
        ("uvicorn --workers 2 --limit-concurrency 200 mysite.asgi:application", {}, "limit=200 of=uvicorn"),
        ("uvicorn --limit-concurrency 200 mysite.asgi:application", {}, "limit=200 of=uvicorn"),
    ],
)
def test_a_server_with_a_lower_limit_is_told_at_the_start(
    serve: Serve, command: str, variables: dict[str, str], line: str
) -> None:
    with serve(command.split(), **variables) as site:
        until(lambda: f"connection_limit_low {line} wanted=31000" in site.log, site)


@pytest.mark.slow
@pytest.mark.parametrize("name", RESPAWN)
def test_a_killed_worker_is_replaced_and_a_stop_ends_all(serve: Serve, name: str) -> None:
    with serve(RECIPES[name]) as site:
        until(lambda: is_served(site), site)
        until_started(site, 2)
        before = workers(site)
        assert len(before) == 2
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(workers(site) - {killed}) == 2, site)
        until_started(site, 3)
        until(lambda: is_served(site), site)
        assert site.process.poll() is None
        stop(site)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["daphne", "hypercorn"])
def test_other_servers_end_with_their_worker(serve: Serve, name: str) -> None:
    """So that whatever supervises them starts them again."""
    with serve(COMMANDS[name]) as site:
        until(lambda: is_served(site), site)
        os.kill(min(workers(site), default=site.process.pid), signal.SIGKILL)
        site.process.wait(WAIT)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
async def test_a_stop_ends_streams_in_good_order_within_the_time_of_the_supervisor(serve: Serve, name: str) -> None:
    with serve(COMMANDS[name]) as site:
        await until_served(site.url)
        await asyncio.to_thread(until_started, site, processes(COMMANDS[name]))
        async with stream(site.url) as (_, one), stream(site.url) as (_, two):
            await asyncio.to_thread(stop, site)
            async with asyncio.timeout(WAIT):
                assert all([b"\nretry:" in await each.read() for each in (one, two)])


def stop(site: Site) -> None:
    """Stop the server as a supervisor does, which would kill what is left after its own time."""
    family = [psutil.Process(site.process.pid), *psutil.Process(site.process.pid).children(recursive=True)]
    site.process.terminate()
    site.process.wait(int(UNIT["Service"]["TimeoutStopSec"]))
    assert site.process.returncode in (0, -signal.SIGTERM), site.log[-4000:]
    assert psutil.wait_procs(family, WAIT)[1] == []


def test_what_tells_whether_a_container_lives_is_answered(serve: Serve) -> None:
    probe = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"]
    fields = {each["name"]: each["value"] for each in probe["httpHeaders"]}
    with serve(RECIPES["docker"], DJANGO_ALLOWED_HOSTS=fields["Host"]) as site:
        until(lambda: httpx.get(site.url + probe["path"], headers=fields).status_code == 200, site)
