"""Runs the demo as ``make demo`` does, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kafka import launch
from tests.support.servers import free_port, with_open_files

__all__ = ["demo_site"]

_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def demo_site(
    folder: Path, bootstrap: str | None, *, open_files: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """Run the demo with data of its own, on a Kafka or with the embedded broker; yield its address, process and log.

    ``open_files`` is its soft limit of open files.
    """
    port = free_port()
    env = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    env |= {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
        "KAFKAPROXY_STORE_DIR": str(folder / "store"),
    }
    if bootstrap is not None:
        env["KAFKA_BOOTSTRAP_SERVERS"] = bootstrap
    log = folder / f"demo-{port}.log"
    command = [sys.executable, launch.__file__, str(os.getpid())]
    command += with_open_files(open_files, [sys.executable, str(_ROOT / "manage.py"), "demo", "--port", str(port)])
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=_ROOT, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        _wait_until_served(f"http://127.0.0.1:{port}/", process, log)
        yield f"http://127.0.0.1:{port}/", process, log
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_served(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return
