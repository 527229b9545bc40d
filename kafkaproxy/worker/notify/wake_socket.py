"""Waking the other processes of the host: an empty datagram to each one's socket. The store is the truth.

Sockets lie next to the store where its path is short enough for one (there is room for about 100 bytes), else in the temporary
folder. A process that gets no datagrams all the same looks at the store now and then.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Final

__all__ = ["WakeSocket", "socket_folder"]

_numbers = itertools.count()
_TICK: Final = 1_000_000_000
_ROOM: Final = 80
"""Bytes for the folder: what a socket's path may have, less a process id and a number."""


def socket_folder(store: Path) -> Path:
    """Return where the sockets of the processes that share a store lie."""
    beside = store.resolve() / "wake"
    if len(os.fsencode(beside)) <= _ROOM:
        return beside
    digest = hashlib.blake2b(str(store.resolve()).encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"kafkaproxy-wake-{os.getuid()}" / digest


class WakeSocket:
    """This process's end: readable when something may have changed in the store; and how it tells the others."""

    def __init__(self, store: Path) -> None:
        self._folder = socket_folder(store)
        self.path = self._folder / f"{os.getpid()}-{next(_numbers)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bind()
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._others: list[str] = []
        self._listed = -1
        """The folder's time of change under which ``_others`` was listed; -1 where it may have changed again since."""

    def _bind(self) -> None:
        while True:
            with contextlib.suppress(FileNotFoundError):  # whoever was the last there has just removed the folder
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self.path.unlink(missing_ok=True)
                self._socket.bind(str(self.path))
                return

    def wait(self, seconds: float) -> bool:
        """Block until somebody wakes, or for ``seconds``; say which. Datagrams that wait all say the same: all are taken."""
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(16)
        except TimeoutError:
            return False
        self._socket.setblocking(False)  # a socket with a time-out waits for it, whatever the flags say
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)
        return True

    def wake(self) -> None:
        """Wake this process's own :meth:`wait`."""
        self._send(str(self.path))

    def wake_others(self) -> None:
        """Send a datagram to every other process that listens for this store."""
        with contextlib.suppress(FileNotFoundError):
            self._list()
            for path in self._others:
                self._send(path)

    def close(self) -> None:
        """Close and remove the socket, and the folder after the last one."""
        self._socket.close()
        self._sender.close()
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are there
            self._folder.rmdir()
            if self._folder.parent.name.startswith("kafkaproxy-wake-"):
                self._folder.parent.rmdir()

    def _list(self) -> None:
        """List the sockets again where the folder may have changed: this runs for every commit."""
        changed = os.stat(self._folder).st_mtime_ns
        if changed == self._listed:
            return
        self._others = [entry.path for entry in os.scandir(self._folder) if entry.path != str(self.path)]
        # What changes within a tick of the file system's clock leaves the same time behind.
        self._listed = changed if time.time_ns() - changed > _TICK else -1

    def _send(self, path: str) -> None:
        try:
            self._sender.sendto(b"\0", path)
        except (ConnectionRefusedError, FileNotFoundError):  # its process is dead
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError:  # its buffer is full of datagrams that say the same, or it is not ours to wake: it looks by itself
            pass
