"""Waking the other processes of the host: an empty datagram to each one's socket. The store is the truth.

Sockets lie in a short path of their own, since a Unix socket's path has room for about 100 bytes and a store's may be longer.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import socket
import tempfile
from pathlib import Path

__all__ = ["WakeSocket", "socket_folder", "wake_all"]

_numbers = itertools.count()


def socket_folder(store: Path) -> Path:
    """Return where the sockets of the processes that share a store lie."""
    digest = hashlib.blake2b(str(store.resolve()).encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"kafkaproxy-wake-{os.getuid()}" / digest


class WakeSocket:
    """This process's end: readable when something may have changed in the store."""

    def __init__(self, store: Path) -> None:
        folder = socket_folder(store)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / f"{os.getpid()}-{next(_numbers)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path.unlink(missing_ok=True)
        self._socket.bind(str(self.path))

    def wait(self) -> None:
        """Block until somebody wakes; datagrams that wait all say the same and are taken together."""
        self._socket.recv(16)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close and remove the socket."""
        self._socket.close()
        self.path.unlink(missing_ok=True)


def wake_all(store: Path, sender: socket.socket, skip: Path | None = None) -> None:
    """Send a datagram to every process that listens for this store; sockets of dead processes are removed."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(socket_folder(store)):
            if skip is not None and entry.path == str(skip):
                continue
            try:
                sender.sendto(b"\0", entry.path)
            except BlockingIOError:
                pass  # its buffer is full of datagrams that say the same
            except (ConnectionRefusedError, FileNotFoundError):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)
