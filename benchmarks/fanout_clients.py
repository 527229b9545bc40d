"""Many clients of an event stream in one process: they count every event, and about a hundred of them look at each.

Commands come on standard input, one JSON object a line; each is answered by a line.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fanout_source import Acks

_SAMPLE = 100
_NUMBER = re.compile(rb'data:\{"n":(\d+)')
_ID = re.compile(rb"id:([^\n]+)\n")
_MARK = b"\ndata:"


class Client:
    """One connection."""

    __slots__ = ("asked", "caught_up", "count", "head", "last_id", "looks", "rest", "socket")

    def __init__(self, *, looks: bool) -> None:
        self.looks = looks
        """True if it takes the time of every event."""
        self.last_id = b""
        self.count = 0
        """Events so far."""
        self.asked = self.caught_up = 0.0
        self.rest = b""
        self.head = b""

    def connect(self, host: str, port: int) -> None:
        """Connect and ask; resume where it was."""
        self.asked, self.caught_up, self.rest, self.head = time.monotonic(), 0.0, b"", b""
        self.socket = socket.create_connection((host, port), timeout=30)
        resume = b"last-event-id: " + self.last_id + b"\r\n" if self.last_id else b""
        self.socket.sendall(b"GET /events HTTP/1.1\r\nhost: localhost\r\n" + resume + b"\r\n")
        self.socket.setblocking(False)


class Clients:
    """All of them."""

    def __init__(self, acks: Acks) -> None:
        self._acks = acks
        self._poll = select.epoll()
        self._by_fd: dict[int, Client] = {}
        self._clients: list[Client] = []
        self._address = ("", 0)
        self._until = -1
        """Clients have caught up when they have this record."""
        self._waiting = 0
        self.events = 0
        self._first = 0.0
        """When the first event came."""
        self.latencies: list[float] = []

    def open(self, host: str, port: int, count: int) -> dict[str, Any]:
        """Connect so many, and return when each has its first bytes."""
        self._address = (host, port)
        every = max(count // _SAMPLE, 1)
        self._clients = [Client(looks=number % every == 0) for number in range(count)]
        began = time.monotonic()
        self._connect()
        return {"seconds": time.monotonic() - began}

    def measure(self, seconds: float, expected: int) -> dict[str, Any]:
        """Read for so long, or until ``expected`` events came; the time goes from the first one on."""
        self.events, self._first, self.latencies = 0, 0.0, []
        began = time.monotonic()
        self._read(lambda: self.events >= expected or time.monotonic() > began + seconds)
        took = time.monotonic() - (self._first or began)
        ordered = sorted(self.latencies)
        return {
            "events": self.events,
            "seconds": took,
            "p50_ms": ordered[len(ordered) // 2] * 1e3 if ordered else None,
            "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3 if ordered else None,
        }

    def drop(self) -> dict[str, Any]:
        """Drop every connection."""
        for client in self._clients:
            self._poll.unregister(client.socket)
            del self._by_fd[client.socket.fileno()]
            client.socket.close()
        return {}

    def storm(self, until: int, missed: int) -> dict[str, Any]:
        """Come back all at once, and read until each has the record ``until``, the last of those it ``missed``."""
        self._until, self._waiting, self.events = until, len(self._clients), 0
        for client in self._clients:
            client.count = 0
        began = time.monotonic()
        self._connect()
        self._read(lambda: not self._waiting or time.monotonic() > began + 120)
        took = sorted(each.caught_up - each.asked for each in self._clients if each.caught_up)
        return {
            "seconds": time.monotonic() - began,
            "caught_up": len(took),
            "p50_ms": took[len(took) // 2] * 1e3,
            "p99_ms": took[len(took) * 99 // 100] * 1e3,
            "complete": all(each.count == missed for each in self._clients),
        }

    def _connect(self) -> None:
        for client in self._clients:
            client.connect(*self._address)
            self._by_fd[client.socket.fileno()] = client
            self._poll.register(client.socket, select.EPOLLIN)
            self._step(0)
        self._read(lambda: all(each.head for each in self._clients))

    def _read(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            self._step(0.02)

    def _step(self, patience: float) -> None:
        for fd, _ in self._poll.poll(patience):
            client = self._by_fd[fd]
            try:
                data = client.socket.recv(1 << 18)
            except BlockingIOError:
                continue
            if not data:
                raise RuntimeError(f"the server closed a connection after {client.head!r}")
            self._take(client, data, time.monotonic())

    def _take(self, client: Client, data: bytes, now: float) -> None:
        if not client.head:
            client.head = data[:200]
            if not data.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(repr(data[:500]))
        text = client.rest + data
        cut = text.rfind(b"\n\n") + 1
        whole, client.rest = text[:cut], text[cut:]
        if not whole:
            return
        count = whole.count(_MARK)
        client.count += count
        self.events += count
        self._first = self._first or (now if count else 0.0)
        if client.looks:
            numbers = [int(number) for number in _NUMBER.findall(whole)]
            # The client may have it before its producer knows that it is acknowledged.
            self.latencies += [max(now - (self._acks.time_of(number) or now), 0) for number in numbers]
        self._note(client, whole, now)

    def _note(self, client: Client, whole: bytes, now: float) -> None:
        ids = _ID.findall(whole, max(0, whole.rfind(b"id:")))
        if ids:
            client.last_id = ids[-1]
        if self._waiting and not client.caught_up:
            numbers = _NUMBER.findall(whole)
            if numbers and int(numbers[-1]) >= self._until:
                client.caught_up = now
                self._waiting -= 1


def _main(acks: str) -> None:
    clients = Clients(Acks(Path(acks)))
    print("ready", flush=True)
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        answer = getattr(clients, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
