"""The open streams of a process: counted, limited, and ended in good order when the server stops.

Not every server tells an application that it stops while responses are open (uvicorn waits for them for ever), so the signal is
watched as well: the handler that was there is called after ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, Protocol

from kafkaproxy.conf import Settings, get_settings

__all__ = ["Streams", "retry_ms"]

log = logging.getLogger("kafkaproxy.stream")

Handler = Callable[[int, FrameType | None], Any]
_AGAIN_SECONDS: Final = 0.5
"""When to repeat a signal for a server that hears of it through asyncio: by a pipe that is full while the loop is busy with
thousands of clients, so that the signal is lost."""


class Drainable(Protocol):
    """A stream that can be ended."""

    def drain(self) -> None:
        """End, telling the client when to come back."""
        ...


class Streams:
    """The registry. ``on_stop`` is called once, when the server is told to stop."""

    def __init__(self, on_stop: Callable[[], None] = lambda: None) -> None:
        self.draining = False
        self.stop_by: float | None = None
        """When the process is to have ended, by the monotonic clock; None until it is told to stop."""
        self._on_stop = on_stop
        self._open: dict[Drainable, asyncio.AbstractEventLoop] = {}
        self._places = 0
        self._watching = False

    def __len__(self) -> int:
        return len(self._open)

    @contextlib.contextmanager
    def place(self, limit: int) -> Iterator[bool]:
        """Take a place for a stream, also for the time until it is open; False where there are ``limit`` already."""
        if self._places >= limit:
            yield False
            return
        self._places += 1
        try:
            yield True
        finally:
            self._places -= 1

    @contextlib.contextmanager
    def opened(self, stream: Drainable) -> Iterator[None]:
        """Count a stream while it is open. One that was being opened when the draining began ends at once."""
        self._open[stream] = asyncio.get_running_loop()
        if self.draining:  # looked at after it was added: who drains looks at both the other way round
            stream.drain()
        try:
            yield
        finally:
            del self._open[stream]

    def drain(self, seconds: float | None = None) -> None:
        """End every stream, each at its own moment, so that clients do not all come back at once. From any thread.

        The process is to have ended in so many seconds; ``STOP_SECONDS`` unless given.
        """
        if self.draining:
            return
        self.draining = True
        self.stop_by = time.monotonic() + (get_settings().stop_seconds if seconds is None else seconds)
        self._on_stop()
        log.info("draining streams=%s", len(self._open))
        for loop in set(self._open.values()):
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(self._drain, loop)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        longest = get_settings().drain_seconds / 2
        for stream in [stream for stream, own in self._open.items() if own is loop]:
            loop.call_later(random.uniform(0, longest), stream.drain)  # noqa: S311 - spreads load, hides nothing

    async def drained(self) -> None:
        """Drain, and wait for the streams to end, up to the setting ``DRAIN_SECONDS``.

        A server that says only now that it stops has taken its time for the requests that were under way: half of ours is left.
        """
        self.drain(get_settings().stop_seconds / 2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(get_settings().drain_seconds, self._left() * 2 / 3)):
                while self._places:  # noqa: ASYNC110 - streams may end in other loops than this one
                    await asyncio.sleep(0.05)

    def _left(self) -> float:
        """Return how many seconds are left for the stop."""
        return math.inf if self.stop_by is None else max(self.stop_by - time.monotonic(), 0)

    def watch(self) -> None:
        """Notice from now on that the server is told to stop; see to it that it hears of it, too."""
        if self._watching or threading.current_thread() is not threading.main_thread():
            return
        self._watching = True
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before):
                signal.signal(number, self._handler(loop, before))

    def _handler(self, loop: asyncio.AbstractEventLoop, before: Handler) -> Handler:
        def handle(number: int, frame: FrameType | None) -> Any:
            if not self.draining:
                with contextlib.suppress(RuntimeError):  # the loop is closed already
                    loop.call_soon_threadsafe(self.drain)
                    if getattr(before, "__module__", "") == "asyncio.unix_events":
                        loop.call_soon_threadsafe(loop.call_later, _AGAIN_SECONDS, os.kill, os.getpid(), number)
            return before(number, frame)

        return handle


def retry_ms(settings: Settings) -> int:
    """Return a reconnection time for one client: random, so that they do not all come back at once."""
    longest = settings.drain_retry_ms
    return random.randint(longest // 3, longest)  # noqa: S311
