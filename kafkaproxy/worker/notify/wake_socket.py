"""Waking the other processes of the host: an empty datagram to each one's socket. The store is the truth.

The sockets lie next to the store if that path is short enough for a socket (about 100 bytes), else in the temporary folder. A
process that gets no datagram notices the change all the same: it checks the store at least every half second.
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
"""The longest path of the folder in bytes: what the path of a socket may have, less a process id and a number."""


def socket_folder(store: Path) -> Path:
    """Return the folder of the sockets of the processes that share a store."""
    beside = store.resolve() / "wake"
    if len(os.fsencode(beside)) <= _ROOM:
        return beside
    digest = hashlib.blake2b(str(store.resolve()).encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"kafkaproxy-wake-{os.getuid()}" / digest


class WakeSocket:
    """This process's socket, readable when the store may have changed, and the way to wake the other processes."""

    def __init__(self, store: Path) -> None:
        self._folder = socket_folder(store)
        self.path = self._folder / f"{os.getpid()}-{next(_numbers)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bind()
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._others: list[str] = []
        self._listed = -1
        """The folder's modification time when ``_others`` was listed; -1 if it may have changed since without showing it."""

    def _bind(self) -> None:
        while True:
            with contextlib.suppress(FileNotFoundError):  # the last process to leave has just removed the folder
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self.path.unlink(missing_ok=True)
                self._socket.bind(str(self.path))
                return

    def wait(self, seconds: float) -> bool:
        """Block until a wake-up arrives, at most ``seconds``; return True if one did.

        All datagrams that are queued mean the same, so they are all taken at once.
        """
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(16)
        except TimeoutError:
            return False
        self._socket.setblocking(False)  # with a time-out recv() would wait, whatever its flags
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)
        return True

    def wake(self) -> None:
        """End this process's own :meth:`wait`."""
        self._send(str(self.path))

    def wake_others(self) -> None:
        """Send a datagram to every other process that listens for this store."""
        with contextlib.suppress(FileNotFoundError):
            self._list()
            for path in self._others:
                self._send(path)

    def close(self) -> None:
        """Close and remove the socket; the last process removes the folder too."""
        self._socket.close()
        self._sender.close()
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other processes still have sockets there
            self._folder.rmdir()
            if self._folder.parent.name.startswith("kafkaproxy-wake-"):
                self._folder.parent.rmdir()

    def _list(self) -> None:
        """List the sockets again if the folder may have changed. It is called after every commit, so the listing is kept."""
        changed = os.stat(self._folder).st_mtime_ns
        if changed == self._listed:
            return
        self._others = [entry.path for entry in os.scandir(self._folder) if entry.path != str(self.path)]
        # A change within the same tick of the file system's clock does not move the modification time.
        self._listed = changed if time.time_ns() - changed > _TICK else -1

    def _send(self, path: str) -> None:
        try:
            self._sender.sendto(b"\0", path)
        except (ConnectionRefusedError, FileNotFoundError):  # its process is dead
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError:
            # Its buffer is full of datagrams that mean the same, or its process belongs to another user. Such a process notices
            # the change when it checks the store.
            pass
