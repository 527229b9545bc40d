"""A TCP proxy between clients and a broker that holds back the broker's answers to producers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

__all__ = ["StallingProxy"]

_PRODUCE: Final = 0
_LOOK_SECONDS: Final = 0.05


class StallingProxy:
    """Passes everything on. While it is stalled, answers on connections that carry produce requests wait."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._flowing = threading.Event()
        self._flowing.set()
        self._upstream = ("", 0)
        self._sockets: list[socket.socket] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed = True
        self._flowing.set()
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def begin(self, upstream: str) -> None:
        """Serve clients of the broker at this address."""
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Hold answers to producers back, from the next one on."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on what was held back."""
        self._flowing.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    broker = socket.create_connection(self._upstream)
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, broker]
                producing = threading.Event()
                threading.Thread(target=self._requests, args=(client, broker, producing), daemon=True).start()
                threading.Thread(target=self._answers, args=(broker, client, producing), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket, producing: threading.Event) -> None:
        with _closing(client, broker), client.makefile("rb") as stream:
            while len(head := stream.read(4)) == 4:
                body = stream.read(struct.unpack(">i", head)[0])
                if struct.unpack(">h", body[:2])[0] == _PRODUCE:
                    producing.set()
                broker.sendall(head + body)

    def _answers(self, broker: socket.socket, client: socket.socket, producing: threading.Event) -> None:
        with _closing(client, broker):
            while data := broker.recv(1 << 16):
                while producing.is_set() and not self._closed and not self._flowing.wait(_LOOK_SECONDS):
                    pass
                client.sendall(data)


@contextlib.contextmanager
def _closing(*sockets: socket.socket) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError):
        pass
    finally:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
