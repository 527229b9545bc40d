"""Generations of a store: folders of which the symbolic link ``current`` names one.

A frozen writer keeps LMDB's write lock, maybe in the middle of a transaction, as long as its process exists, so no other
process can write to its environment. The next writer therefore makes another environment and moves the link to it. The name of
a generation is never used again: if the link names another one than a process has open, the open one is out of service.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["current", "hold", "remove_unused", "replace", "try_replace"]

Fill = Callable[[Path], bool]
"""Fills the folder of a new generation; returns False if a new generation is no longer needed."""


def current(home: Path) -> Path | None:
    """Return the folder of the current generation; None if there is none."""
    try:
        path = home / os.readlink(home / "current")
    except OSError:
        return None
    return path if path.is_dir() else None


def hold(path: Path) -> int | None:
    """Return a file descriptor that keeps a generation from being removed until it is closed; None if it is not current."""
    try:
        fd = os.open(path / "users.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Each process that uses a generation holds a shared lock, and removing it needs the exclusive one: only what no process
        # uses is removed. The kernel releases the locks of a process that dies.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:  # a process is removing it
        os.close(fd)
        return None
    if current(path.parent) != path:
        os.close(fd)
        return None
    return fd


def replace(home: Path, old: Path | None) -> Path:
    """Replace ``old`` by an empty generation and return it, or return the one that has already replaced it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(home, wait=True):
        now = current(home)
        made = _make(home, lambda _path: True) if now is None or now == old else now
    assert made is not None
    return made


def try_replace(home: Path, old: Path, fill: Fill) -> bool:
    """Replace ``old`` by a generation that ``fill`` fills; return True if that was done.

    Does nothing if another process is doing it or has done it. If the process dies meanwhile, ``old`` stays current.
    """
    with _locked(home, wait=False) as locked:
        return locked and current(home) == old and _make(home, fill) is not None


def remove_unused(home: Path) -> None:
    """Remove the generations that are not current and that no process holds. Does nothing while one is being made."""
    with _locked(home, wait=False) as locked:
        if not locked:
            return
        kept = current(home)
        for entry in list(os.scandir(home)):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False) and path != kept and not _is_held(path):
                shutil.rmtree(path, ignore_errors=True)


def _make(home: Path, fill: Fill) -> Path | None:
    path = home / secrets.token_hex(6)
    path.mkdir(mode=0o700)
    try:
        (path / "users.lock").touch(mode=0o600)
        if fill(path):
            # A link is renamed, not rewritten: other processes see the former generation or the new one, never none.
            link = home / "current.new"
            link.unlink(missing_ok=True)  # left by a process that died here
            link.symlink_to(path.name)
            link.replace(home / "current")
            return path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    return None


def _is_held(path: Path) -> bool:
    try:
        fd = os.open(path / "users.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)  # it is not current, so that no process can begin to hold it after this
    return False


@contextlib.contextmanager
def _locked(home: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock under which the link moves; yields True if it is held."""
    try:
        fd = os.open(home / "generations.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # the store was removed
        if wait:
            raise
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
