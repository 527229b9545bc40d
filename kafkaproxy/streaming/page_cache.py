"""Pages of frames that streams read while they catch up, cached: clients that reconnect together read the same pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, NamedTuple

from kafkaproxy.core.futures import await_shared

__all__ = ["FramePage", "PageCache"]

_MAX_PAGES: Final = 256
_MAX_BYTES: Final = 8 << 20


class FramePage(NamedTuple):
    """Frames of consecutive records of a partition."""

    frames: bytes
    reached: int
    """The offset after the last record read; -1 if neither the store nor Kafka has the record at the start of the page."""
    position: str
    """The progress in the event id of the last frame; empty without frames."""


class _Reading:
    """A page that is being read, and how many streams wait for it."""

    __slots__ = ("task", "users")

    def __init__(self, task: asyncio.Future[FramePage]) -> None:
        self.task = task
        self.users = 0


class PageCache:
    """The pages read last, by selection and start. Bounded in number and bytes; the oldest is removed first."""

    def __init__(self) -> None:
        self._pages: dict[Hashable, FramePage] = {}
        self._bytes = 0
        self._reading: dict[Hashable, _Reading] = {}

    def get(self, key: Hashable) -> FramePage | None:
        """Return a cached page; None without one."""
        return self._pages.get(key)

    def put(self, key: Hashable, page: FramePage) -> None:
        """Cache a page."""
        if key in self._pages:
            return
        self._pages[key] = page
        self._bytes += len(page.frames)
        while self._bytes > _MAX_BYTES or len(self._pages) > _MAX_PAGES:
            self._bytes -= len(self._pages.pop(next(iter(self._pages))).frames)

    async def shared(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, FramePage]]) -> FramePage:
        """Return the result of ``read``, which runs once for all concurrent calls with the same key.

        It is cancelled when the last of them is cancelled.
        """
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = _Reading(asyncio.ensure_future(read()))
            reading.task.add_done_callback(lambda done: self._finished(key, reading, done))
        reading.users += 1
        try:
            return await await_shared(reading.task)
        finally:
            reading.users -= 1
            if not reading.users and reading.task.cancel():
                self._forget(key, reading)  # a call from now on must not join the cancelled read

    def _finished(self, key: Hashable, reading: _Reading, done: asyncio.Future[FramePage]) -> None:
        self._forget(key, reading)
        if not done.cancelled() and done.exception() is None and done.result().reached >= 0:
            self.put(key, done.result())

    def _forget(self, key: Hashable, reading: _Reading) -> None:
        if self._reading.get(key) is reading:
            del self._reading[key]
