"""Runs an ASGI application on any of the servers we support, as a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kafka import launch

__all__ = ["SERVERS", "Site", "free_port", "run", "serve", "with_open_files"]

_START_SECONDS: Final = 60.0


def _granian(application: str, port: int) -> list[str]:
    return ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), application]


def _uvicorn(application: str, port: int) -> list[str]:
    return ["uvicorn", "--host", "127.0.0.1", "--port", str(port), "--timeout-graceful-shutdown", "5", application]


SERVERS: Final[Mapping[str, Callable[[str, int], list[str]]]] = {
    "daphne": lambda application, port: ["daphne", "-b", "127.0.0.1", "-p", str(port), application],
    "granian": _granian,
    "uvicorn": _uvicorn,
    "hypercorn": lambda application, port: ["hypercorn", "--bind", f"127.0.0.1:{port}", application],
}
"""Server name → its command line, for an application such as ``project.asgi:application`` and a port."""


@dataclass(frozen=True, slots=True)
class Site:
    """A server that runs."""

    url: str
    """Without a slash at the end."""
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        """What it said so far."""
        return self.log_path.read_text(errors="replace")


@contextmanager
def serve(
    server: str,
    application: str,
    folder: Path,
    *,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
    port: int | None = None,
    options: Sequence[str] = (),
) -> Iterator[Site]:
    """Serve until the block ends; the log goes to ``folder``. The process dies with this one.

    ``env`` goes over this process's environment; None takes a variable away.
    """
    port = port or free_port()
    with run([*SERVERS[server](application, port), *options], port, folder, env=env, cwd=cwd) as site:
        yield site


@contextmanager
def run(
    command: Sequence[str],
    port: int,
    folder: Path,
    *,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
    open_files: int | None = None,
) -> Iterator[Site]:
    """Run a server's command line as :func:`serve` does; it has to listen on the port. ``open_files`` is its soft limit."""
    log_path = folder / f"{Path(command[0]).name}-{port}.log"
    command = [sys.executable, launch.__file__, str(os.getpid()), *with_open_files(open_files, _module(command))]
    environment = {name: value for name, value in {**os.environ, **(env or {})}.items() if value is not None}
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, env=environment)
    site = Site(f"http://127.0.0.1:{port}", process, log_path)
    try:
        _wait_until_listening(site, port)
        yield site
    finally:
        _stop(process)


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def with_open_files(limit: int | None, command: Sequence[str]) -> list[str]:
    """Return a command line that starts another one with a soft limit of open files; the hard one stays."""
    return list(command) if limit is None else ["sh", "-c", f'ulimit -Sn {limit} && exec "$@"', "sh", *command]


def _module(command: Sequence[str]) -> list[str]:
    """Run the server that is installed beside this Python, whatever PATH says."""
    return [str(Path(sys.executable).parent / command[0]), *command[1:]]


def _wait_until_listening(site: Site, port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if site.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not listen: {site.log[-4000:]}") from None
            time.sleep(0.05)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
