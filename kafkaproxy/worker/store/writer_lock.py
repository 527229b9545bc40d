"""The writer's lock: the process that holds it writes the store, until it dies.

A note next to the lock names the boot of the machine under which the store was written. LMDB is not synced to disk (it is a
cache), so a crash of the whole machine may leave torn pages: a store of another boot that was not closed cleanly is deleted
before it is opened. Where the system has no boot id (macOS), each process holds a second lock while it lives; if no earlier
process holds it, the machine may have crashed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Final

__all__ = ["WriterLock", "make_private", "mark", "prepare", "writer_pid"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class WriterLock:
    """An advisory lock (``flock``) on ``writer.lock`` in the folder of a store's generation (``Store.path``).

    The kernel frees it when the process dies.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "writer.lock"
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """True if this process is the writer."""
        return self._fd is not None

    def acquire(self) -> bool:
        """Try to become the writer, without waiting; return True if this process is the writer now."""
        if self._fd is not None:
            return True
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        self._fd = fd
        return True

    def release(self) -> None:
        """Release the lock, so that another process can write."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def writer_pid(folder: Path | None) -> int | None:
    """Return the id of the process that writes the generation in ``folder``; None if no process does or there is no folder."""
    if folder is None:
        return None
    try:
        fd = os.open(folder / "writer.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return int(os.read(fd, 20) or 0)
    finally:
        os.close(fd)
    return None


def make_private(folder: Path) -> None:
    """Make the folder and its parent with mode 0700; raise ``PermissionError`` if another user made them or can change them.

    What is in the store is served to clients, so no other user may write there.
    """
    for each in (folder.parent, folder):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = each.stat()
        if found.st_uid not in (0, os.getuid()) or (found.st_mode & 0o002 and not found.st_mode & 0o1000):
            raise PermissionError(
                f"The store's folder {each} belongs to, or can be changed by, another user: give it to this one."
            )


def prepare(folder: Path) -> None:
    """Create the folder, and delete a store that a crash of the machine may have torn. Call it before the store is opened."""
    make_private(folder)
    fd = os.open(folder / "prepare.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # One process at a time: two that start together must not both judge, and delete, the store.
        fcntl.flock(fd, fcntl.LOCK_EX)
        note, boot = _read_note(folder), _boot_id()
        is_of_this_boot = note is not None and (note["boot"] == boot if boot else _is_store_in_use(folder))
        if note is None or not (is_of_this_boot or note["clean"]):
            for path in folder.glob("store-*"):
                shutil.rmtree(path)
        if not is_of_this_boot:
            mark(folder, clean=False)
        if not boot:
            _hold_alive_lock(folder)
    finally:
        os.close(fd)


def mark(folder: Path, *, clean: bool) -> None:
    """Write down if the store was synced and closed."""
    note: dict[str, str | bool] = {"boot": _boot_id(), "clean": clean}
    if _read_note(folder) == note:  # it is not written again needlessly: on a full disk that would fail
        return
    # Renamed into place: a crash must not leave half a note.
    temporary = folder / f"store.json.{os.getpid()}"
    temporary.write_text(json.dumps(note))
    temporary.replace(folder / "store.json")


def _read_note(folder: Path) -> dict[str, str | bool] | None:
    try:
        note = json.loads((folder / "store.json").read_text())
        return note if isinstance(note, dict) and {"boot", "clean"} <= note.keys() else None
    except (OSError, ValueError):
        return None


def _boot_id() -> str:
    """Return an id that changes with each boot; empty if the system has none (not Linux)."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


_alive_locks: dict[tuple[int, Path], int] = {}
"""The file descriptors whose locks show that this process is alive; the kernel closes them when it dies."""


def _is_store_in_use(folder: Path) -> bool:
    """Return True if a process that has used the store is alive, this one included: the machine has not crashed since."""
    fd = _open_alive_lock(folder)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _hold_alive_lock(folder: Path) -> None:
    key = (os.getpid(), folder.resolve())
    if key not in _alive_locks:
        _alive_locks[key] = fd = _open_alive_lock(folder)
        fcntl.flock(fd, fcntl.LOCK_SH)


def _open_alive_lock(folder: Path) -> int:
    return os.open(folder / "alive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
