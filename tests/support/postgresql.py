"""A PostgreSQL server of the tests' own, on a loopback port, with its data in a folder that goes away.

``python -m tests.support.postgresql COMMAND...`` runs a command with ``POSTGRESQL_URL`` and ``TEST_DATABASE_URL`` naming such a
server, and ends with the command's status: with ``TEST_DATABASE_URL``, the tests use PostgreSQL instead of SQLite.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

from tests.support.servers import free_port

__all__ = ["NoPostgresql", "postgresql"]

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_USER: Final = "kafkaproxy"
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


class NoPostgresql(Exception):
    """PostgreSQL is not installed here."""


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a server until the block ends; yield the URL of its database ``postgres``, whose user may create databases.

    Raise :class:`NoPostgresql` where it is not installed. PostgreSQL refuses to run as root, so root runs it as the user
    ``postgres`` or ``nobody``.
    """
    programs = _programs()
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="kafkaproxy-postgresql-"))  # not pytest's folder, which other users cannot enter
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        _initialise(programs, data, user)
        with _running(programs, data, user) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """Return the folder of ``initdb`` and ``postgres``: Debian's, newest version first, or that on the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), reverse=True)
    found = versions[0] if versions else shutil.which("initdb")
    if found is None:
        raise NoPostgresql("PostgreSQL's initdb is not installed")
    return Path(found).resolve().parent


def _user() -> str | None:
    """Return the user to run as; None: the one that we are."""
    if os.getuid():
        return None
    return next(each.pw_name for name in ("postgres", "nobody") for each in pwd.getpwall() if each.pw_name == name)


def _initialise(programs: Path, data: Path, user: str | None) -> None:
    command = [str(programs / "initdb"), "--pgdata", str(data), "--username", _USER, "--auth", "trust", "--no-sync"]
    command += ["--encoding", "UTF8", "--locale", "C"]
    done = subprocess.run(command, cwd="/", user=user, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def _running(programs: Path, data: Path, user: str | None) -> Iterator[str]:
    port = free_port()
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "max_connections": "200"}
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    log_path = data.parent / "log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=user,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call; tests.kafka.launch cannot change the user
        )
    url = f"postgres://{_USER}@127.0.0.1:{port}/postgres"
    try:
        _wait_until_ready(server, url, log_path)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # "fast": it ends the sessions that are open
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _die_with_parent() -> None:
    """Have the server stop at once when the process that started it ends, however that ends."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            assert server.poll() is None, log_path.read_text(errors="replace")
            assert time.monotonic() < deadline, log_path.read_text(errors="replace")
            time.sleep(0.05)
        else:
            return


def _main(command: list[str]) -> int:
    try:
        with postgresql() as url:
            environment = {**os.environ, "POSTGRESQL_URL": url, "TEST_DATABASE_URL": url}
            return subprocess.run(command, env=environment, check=False).returncode
    except NoPostgresql as reason:
        sys.stderr.write(f"{reason}\n")
        return 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
