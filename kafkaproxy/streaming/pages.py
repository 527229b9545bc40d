"""What streams read on their way to the live end, kept for a moment: clients that come back together read the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, NamedTuple

from kafkaproxy.core.futures import await_shared

__all__ = ["Page", "Pages"]

_PAGES: Final = 256
_BYTES: Final = 8 << 20


class Page(NamedTuple):
    """Frames of a partition."""

    frames: bytes
    reached: int
    """The offset up to which they are all; -1 where nobody has any from its beginning on, which may be different soon."""
    position: str
    """The progress after the last frame, as its id says it; empty without frames."""


class _Reading:
    """A page that is being read, and how many wait for it."""

    __slots__ = ("task", "users")

    def __init__(self, task: asyncio.Future[Page]) -> None:
        self.task = task
        self.users = 0


class Pages:
    """The pages that were read last, by where they begin and who may see them. Bounded; the oldest go first."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Page] = {}
        self._bytes = 0
        self._reading: dict[Hashable, _Reading] = {}

    def get(self, key: Hashable) -> Page | None:
        """Return a page that is kept."""
        return self._kept.get(key)

    def keep(self, key: Hashable, page: Page) -> None:
        """Keep a page."""
        if key in self._kept:
            return
        self._kept[key] = page
        self._bytes += len(page.frames)
        while self._bytes > _BYTES or len(self._kept) > _PAGES:
            self._bytes -= len(self._kept.pop(next(iter(self._kept))).frames)

    async def shared(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, Page]]) -> Page:
        """Return the outcome of ``read``, run once for all who ask while it runs; it is cancelled when the last one leaves."""
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = _Reading(asyncio.ensure_future(read()))
            reading.task.add_done_callback(lambda done: self._read(key, reading, done))
        reading.users += 1
        try:
            return await await_shared(reading.task)
        finally:
            reading.users -= 1
            if not reading.users and reading.task.cancel():
                self._forget(key, reading)  # who asks from now on needs another one

    def _read(self, key: Hashable, reading: _Reading, done: asyncio.Future[Page]) -> None:
        self._forget(key, reading)
        if not done.cancelled() and done.exception() is None and done.result().reached >= 0:
            self.keep(key, done.result())

    def _forget(self, key: Hashable, reading: _Reading) -> None:
        if self._reading.get(key) is reading:
            del self._reading[key]
