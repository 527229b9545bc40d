"""Opening LMDB environments: a process opens each once and shares it between all its users."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lmdb

from kafkaproxy.worker.store import generations

__all__ = ["UNUSABLE", "Environment", "close_environment", "copy_environment", "needed_bytes", "open_environment"]

log = logging.getLogger("kafkaproxy.store")

_SPARE_BYTES: Final = 64 << 20
"""How many bytes a copy leaves free on the disk."""
_BLOCKED_SECONDS: Final = 5.0
"""How long opening waits for a transaction of another process. Transactions are short: a process with a longer one is frozen.
"""


class Torn(Exception):
    """The data file is shorter than its contents: reading the missing part would kill the process (SIGBUS)."""


class Blocked(Exception):
    """A frozen process has begun to write, so that no other process can."""

    def __init__(self, env: lmdb.Environment) -> None:
        super().__init__("another process has begun to write and does not go on")
        self.env = env


UNUSABLE: Final = (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError, Torn, Blocked)
"""Errors after which a generation is replaced by another one."""


@dataclass(slots=True)
class Environment:
    """An open environment of a generation, its databases by name, and how many users share it."""

    path: Path
    env: lmdb.Environment
    dbs: Mapping[str, Any]
    release: weakref.finalize[[int], lmdb.Environment]
    """Allows the generation to be removed; called at the latest when the environment is garbage-collected."""
    users: int = 0


# A process must not open an LMDB environment twice, nor carry it across a fork: hence one registry, keyed by process id.
_open: dict[tuple[int, Path], Environment] = {}
_opening: dict[tuple[int, Path], tuple[lmdb.Environment, Future[Mapping[str, Any]]]] = {}
"""Environments whose databases wait for a frozen process; the next attempt to open one continues to wait."""
_lock = threading.Lock()


def open_environment(home: Path, max_bytes: int, names: Iterable[str], *, may_replace: bool = True) -> Environment:
    """Open or share the current generation of the store at ``home``.

    A generation that cannot be read or written any more is replaced by another one. Without ``may_replace`` the error is raised
    instead, and ``FileNotFoundError`` if there is no generation.
    """
    with _lock:
        while True:
            # In a loop: another process may replace the generation between reading the link and holding it.
            path = generations.current(home)
            if path is None:
                if not may_replace:
                    raise FileNotFoundError(home)
                path = generations.replace(home, None)
            if (opened := _shared(path) or _open_held(path, max_bytes, tuple(names), may_replace=may_replace)) is not None:
                opened.users += 1
                return opened
            time.sleep(0.01)  # another process is replacing it


def close_environment(opened: Environment, *, may_be_in_use: bool) -> None:
    """Release an environment; it closes with its last user.

    ``may_be_in_use``: threads may still be in the middle of a transaction, so it closes only when the last of them has ended.
    """
    with _lock:
        opened.users -= 1
        if not opened.users:
            _open.pop((os.getpid(), opened.path.resolve()))
            if not may_be_in_use:
                opened.env.close()
                opened.release()


def copy_environment(env: lmdb.Environment, path: Path) -> None:
    """Copy an environment into the folder of a new one. The folder stays empty if the disk is too full or the data unreadable.

    Copying needs no lock that a writer could hold.
    """
    used, free = needed_bytes(env), shutil.disk_usage(path).free
    if free < used + _SPARE_BYTES:
        log.warning("store_not_copied path=%s bytes=%s free=%s: it is rebuilt from Kafka", path, used, free)
        return
    try:
        env.copy(str(path), compact=True)
    except (lmdb.Error, OSError) as error:
        log.warning("store_not_copied path=%s error=%s: it is rebuilt from Kafka", path, error)
        (path / "data.mdb").unlink(missing_ok=True)


def needed_bytes(env: lmdb.Environment) -> int:
    """Return the length in bytes that the data file needs for its contents. Reads only its first two pages."""
    return (int(env.info()["last_pgno"]) + 1) * int(env.stat()["psize"])


def _shared(path: Path) -> Environment | None:
    return _open.get((os.getpid(), path.resolve()))


def _open_held(path: Path, max_bytes: int, names: tuple[str, ...], *, may_replace: bool) -> Environment | None:
    """Open a generation and keep it from being removed; return None if it is not current any more."""
    held = generations.hold(path)
    if held is None:
        return None
    try:
        env, dbs = _open_within_time(path, max_bytes, names)
    except UNUSABLE as error:
        os.close(held)
        if not may_replace:
            raise
        log.error("store_unreadable path=%s error=%s: another one takes its place", path, error)
        _opening.pop((os.getpid(), path.resolve()), None)
        _replace(path, error)
        return None
    except BaseException:
        os.close(held)
        raise
    opened = _open[os.getpid(), path.resolve()] = Environment(path, env, dbs, weakref.finalize(env, os.close, held))
    return opened


def _replace(path: Path, error: Exception) -> None:
    if not isinstance(error, Blocked):
        generations.replace(path.parent, path)
        return

    def fill(new: Path) -> bool:
        copy_environment(error.env, new)
        return True

    generations.try_replace(path.parent, path, fill)


def _open_within_time(path: Path, max_bytes: int, names: tuple[str, ...]) -> tuple[lmdb.Environment, Mapping[str, Any]]:
    key = (os.getpid(), path.resolve())
    env, opening = _opening.pop(key) if key in _opening else _start_opening(path, max_bytes, names)
    try:
        return env, opening.result(_BLOCKED_SECONDS)
    except TimeoutError:
        _opening[key] = env, opening
        raise Blocked(env) from None


def _start_opening(path: Path, max_bytes: int, names: tuple[str, ...]) -> tuple[lmdb.Environment, Future[Mapping[str, Any]]]:
    # Not synced: the store is a cache, and if a process dies the kernel still has what it wrote. After a crash of the whole
    # machine the writer starts afresh (see kafkaproxy.worker.store.writer_lock).
    env = lmdb.open(
        str(path),
        map_size=max_bytes,
        mode=0o600,
        max_dbs=len(names),
        max_readers=1024,
        sync=False,
        metasync=False,
    )
    needed, found = needed_bytes(env), (path / "data.mdb").stat().st_size
    if found < needed:
        env.close()
        raise Torn(f"data.mdb has {found} bytes of {needed}")
    return env, _open_databases(env, names)


def _open_databases(env: lmdb.Environment, names: tuple[str, ...]) -> Future[Mapping[str, Any]]:
    """Open the databases in a thread, since it may have to wait for a frozen writer."""
    opening: Future[Mapping[str, Any]] = Future()

    def run() -> None:
        # Only in this thread, and in a transaction of its own: without one open_db() waits for the writing process while it
        # holds the interpreter's lock. If the writer is a thread of this process, both would wait for ever.
        try:
            with env.begin(write=True) as txn:
                dbs = {name: env.open_db(name.encode(), txn=txn) for name in names}
        except BaseException as error:  # noqa: BLE001 - the future reports it
            opening.set_exception(error)
        else:
            opening.set_result(dbs)

    threading.Thread(target=run, name="kafkaproxy-open-store", daemon=True).start()
    return opening
