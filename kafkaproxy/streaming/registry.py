"""The registry of the open streams of a process: it counts and limits them, and drains them when the server stops.

Not every server tells an application that it stops while responses are open (uvicorn waits for them without limit), so signals
are handled as well: our handler calls the one that was installed before.
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

__all__ = ["StreamRegistry", "retry_ms"]

log = logging.getLogger("kafkaproxy.stream")

Handler = Callable[[int, FrameType | None], Any]
_REPEAT_SECONDS: Final = 0.5
"""When to repeat a signal for a server whose handler is asyncio's.

It writes to a pipe, which may be full while the loop is busy with thousands of clients: then the signal is lost.
"""


class Drainable(Protocol):
    """A stream that can be ended."""

    def drain(self) -> None:
        """End the stream, and tell the client when to reconnect."""
        ...


class StreamRegistry:
    """The open streams of a process. ``on_stop`` is called once, when the process is told to stop."""

    def __init__(self, on_stop: Callable[[], None] = lambda: None) -> None:
        self.draining = False
        self.stop_by: float | None = None
        """By when the process has to end, by the monotonic clock; None until it is told to stop."""
        self._on_stop = on_stop
        self._open: dict[Drainable, asyncio.AbstractEventLoop] = {}
        self._slots = 0
        self._handles_signals = False

    def __len__(self) -> int:
        return len(self._open)

    @contextlib.contextmanager
    def slot(self, limit: int) -> Iterator[bool]:
        """Take a slot for a stream, before it is opened; yield False if ``limit`` slots are taken."""
        if self._slots >= limit:
            yield False
            return
        self._slots += 1
        try:
            yield True
        finally:
            self._slots -= 1

    @contextlib.contextmanager
    def opened(self, stream: Drainable) -> Iterator[None]:
        """Register a stream while it is open. A stream that was opened after draining began ends at once."""
        self._open[stream] = asyncio.get_running_loop()
        if (
            self.draining
        ):  # checked after the registration; drain() sets it before it reads the registrations, so no stream is missed
            stream.drain()
        try:
            yield
        finally:
            del self._open[stream]

    def drain(self, seconds: float | None = None) -> None:
        """End every stream, at random times within half of ``DRAIN_SECONDS``, so that clients do not reconnect together.

        ``seconds``: by when the process has to end; ``STOP_SECONDS`` unless given. May be called from any thread.
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
            loop.call_later(random.uniform(0, longest), stream.drain)  # noqa: S311 - spreads load, no secret

    async def drained(self) -> None:
        """Drain, and wait for the streams to end, for ``DRAIN_SECONDS`` at most.

        Called by the lifespan's shutdown. A server that sent no signal has waited for its open requests already, so only
        half of ``STOP_SECONDS`` is left.
        """
        self.drain(get_settings().stop_seconds / 2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(get_settings().drain_seconds, self._left() * 2 / 3)):
                while self._slots:  # noqa: ASYNC110 - streams may end in other loops than this one
                    await asyncio.sleep(0.05)

    def _left(self) -> float:
        """Return how many seconds are left until the process has to end."""
        return math.inf if self.stop_by is None else max(self.stop_by - time.monotonic(), 0)

    def watch_signals(self) -> None:
        """Drain on SIGTERM and SIGINT from now on. Does nothing the second time, and outside of the main thread."""
        if self._handles_signals or threading.current_thread() is not threading.main_thread():
            return
        self._handles_signals = True
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
                        loop.call_soon_threadsafe(loop.call_later, _REPEAT_SECONDS, os.kill, os.getpid(), number)
            return before(number, frame)

        return handle


def retry_ms(settings: Settings) -> int:
    """Return the SSE ``retry`` for one client, in milliseconds: random, so that clients do not reconnect together."""
    longest = settings.drain_retry_ms
    return random.randint(longest // 3, longest)  # noqa: S311
