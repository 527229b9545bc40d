"""The embedded broker: librdkafka's in-process mock cluster, for demos and quick tests. It stores nothing on disk.

The first process of a host that needs it runs it; the others read its address from a file next to the store.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

__all__ = ["embedded_servers"]

_running: dict[Path, tuple[Producer, int, str]] = {}
_guard = threading.Lock()
_PATIENCE: Final = 10.0


def embedded_servers(folder: Path) -> str:
    """Return the address of the embedded broker of this store folder; start the broker if no process has.

    Blocks until the broker has started. It lives as long as the process that started it.
    """
    with _guard:
        if folder in _running:
            return _running[folder][2]
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / "embedded.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        address = folder / "embedded.address"
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return _wait_for(address)
        address.unlink(missing_ok=True)
        for store in folder.glob("store-*"):  # it holds topics of an earlier broker, which no longer exist
            shutil.rmtree(store)
        broker = Producer({"test.mock.num.brokers": 1, "log_level": 4})
        brokers = broker.list_topics(timeout=_PATIENCE).brokers.values()
        servers = ",".join(f"{each.host}:{each.port}" for each in brokers)
        _running[folder] = (broker, fd, servers)
        temporary = folder / "embedded.address.new"
        temporary.write_text(servers)
        temporary.replace(address)
        return servers


def _wait_for(address: Path) -> str:
    """Wait for the process that holds the lock to write its address."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if address.exists():
            return address.read_text()
        time.sleep(0.05)
    raise RuntimeError("Another process holds the embedded broker's lock but has not written its address.")
