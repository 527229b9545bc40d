"""Opening LMDB environments: each once in a process, however many use it."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lmdb

__all__ = ["Environment", "close_environment", "open_environment"]

log = logging.getLogger("kafkaproxy.store")


@dataclass(slots=True)
class Environment:
    """An open environment, its databases by name, and how many use it."""

    env: lmdb.Environment
    dbs: Mapping[str, Any]
    users: int = 0


# LMDB must not be opened twice by one process, and not be carried across a fork: one registry, keyed by process.
_open: dict[tuple[int, Path], Environment] = {}
_lock = threading.Lock()


def open_environment(path: Path, max_bytes: int, names: Iterable[str]) -> Environment:
    """Open, or share, the environment at ``path``; one that cannot be read is made anew."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _lock:
        key = (os.getpid(), path.resolve())
        if key not in _open:
            _open[key] = _opened(path, max_bytes, tuple(names))
        _open[key].users += 1
        return _open[key]


def close_environment(path: Path) -> None:
    """Give an environment back; it closes with its last user."""
    with _lock:
        key = (os.getpid(), path.resolve())
        _open[key].users -= 1
        if not _open[key].users:
            _open.pop(key).env.close()


def _opened(path: Path, max_bytes: int, names: tuple[str, ...]) -> Environment:
    # Not synced: it is a cache, and a process that dies loses nothing of it. After a crash of the whole machine the writer
    # starts afresh (see kafkaproxy.worker.lock).
    attempt = partial(
        lmdb.open,
        str(path),
        map_size=max_bytes,
        mode=0o600,
        max_dbs=len(names),
        max_readers=1024,
        sync=False,
        metasync=False,
    )
    try:
        env = attempt()
    except (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError) as error:
        log.error("store_unreadable path=%s error=%s: it is made anew from Kafka", path, error)
        shutil.rmtree(path)
        path.mkdir(mode=0o700)
        env = attempt()
    # Only here, and in a transaction of our own: without one open_db() waits for whoever writes and keeps the interpreter's
    # lock meanwhile. If that is a thread of this process, both wait for ever.
    with env.begin(write=True) as txn:
        return Environment(env, {name: env.open_db(name.encode(), txn=txn) for name in names})
