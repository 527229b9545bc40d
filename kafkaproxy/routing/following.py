"""A thread that polls the database, and is replaced by another one while the database neither answers nor fails.

A driver may wait for hours for a server that vanished without closing the connection. The waiting thread is left alone, and a
new thread goes on polling.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from django.db import connections

__all__ = ["Following"]

_STUCK_SECONDS: Final = 15.0
"""How long a look may take before another thread is started. A slow look still counts when it ends."""
_LONGEST_STUCK_SECONDS: Final = 120.0
"""The same at most: it doubles with each thread that is stuck, as there should not be too many."""
_WATCH_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 2.0


class Following:
    """Calls ``look``, which must not raise, then waits ``pause()`` seconds, and so on until it is stopped."""

    def __init__(self, look: Callable[[], None], pause: Callable[[], float]) -> None:
        self._look = look
        self._pause = pause
        self.looked = threading.Event()
        """Set when a look has ended."""
        self._stopping = threading.Event()
        self._reader = _LookThread(self)
        self._watch = threading.Thread(target=self._replace_stuck, name="kafkaproxy-configuration-watch", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._reader.start()
        self._watch.start()

    def stop(self) -> None:
        """Stop after the present look; waits for that no longer than two seconds. Any thread may call it."""
        self._stopping.set()
        for thread in (self._watch, self._reader):
            if thread is not threading.current_thread():
                thread.join(_STOP_SECONDS)

    def _replace_stuck(self) -> None:
        stuck: list[_LookThread] = []
        while not self._stopping.wait(_WATCH_SECONDS):
            stuck = [each for each in stuck if each.is_alive()]
            if self._reader.seconds() > min(_STUCK_SECONDS * 2 ** len(stuck), _LONGEST_STUCK_SECONDS):
                stuck.append(self._reader)
                self._reader.is_replaced = True
                self._reader = _LookThread(self)
                self._reader.start()

    def repeat(self, reader: _LookThread) -> None:
        """Look again and again in a thread of its own, which has its own connection."""
        try:
            while not (reader.is_replaced or self._stopping.is_set()):
                reader.began = time.monotonic()
                self._look()
                reader.began = None
                self.looked.set()
                self._stopping.wait(self._pause())
        finally:
            connections.close_all()


class _LookThread(threading.Thread):
    def __init__(self, following: Following) -> None:
        super().__init__(name="kafkaproxy-configuration", daemon=True)
        self._following = following
        self.began: float | None = None
        """When the present look began; None between two looks."""
        self.is_replaced = False

    def run(self) -> None:
        self._following.repeat(self)

    def seconds(self) -> float:
        """Return how long the present look has taken so far."""
        began = self.began
        return 0.0 if began is None else time.monotonic() - began
