"""The hubs of a cluster in this process: one for each event loop that serves requests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence

from kafkaproxy.worker.notify.hub import Hub
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.types import Record

__all__ = ["Hubs"]


class Hubs:
    """Event loop → hub. Every method may be called from any thread, except :meth:`current`."""

    def __init__(self, store: Store, topics: Callable[[], Mapping[str, TopicState]], max_merges: int) -> None:
        self.by_loop: Mapping[asyncio.AbstractEventLoop, Hub] = {}
        """Replaced as a whole, so that other threads can iterate over it without a lock."""
        self._lock = threading.Lock()
        self._store = store
        self._topics = topics
        self._max_merges = max(max_merges, 1)

    def current(self, correlation_headers: frozenset[str]) -> Hub:
        """Return the hub of the running event loop; create it if there is none."""
        loop = asyncio.get_running_loop()
        hub = self.by_loop.get(loop)
        if hub is None:
            hub = Hub(loop, self._store, self._topics, correlation_headers, self._max_merges)
            with self._lock:  # two loops may add theirs at once
                self.by_loop = {**self.by_loop, loop: hub}
            # switch_store() may have run after the hub was made and before it was in the table.
            hub.switch_store(self._store)
        return hub

    def switch_store(self, store: Store) -> None:
        """Let every hub continue with another generation of the store."""
        self._store = store
        self.call(lambda hub: hub.switch_store(store))

    def wake(self) -> None:
        """Let every hub read what is new in the store."""
        for hub in self.by_loop.values():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                hub.wake()

    def dispatch_early(self, topic: str, records: Sequence[Record]) -> None:
        """Pass a reply topic's records to the requests that wait for them, before they are committed to the store."""
        for hub in self.by_loop.values():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                hub.dispatch_early(topic, records)

    def end_followers(self) -> None:
        """End every stream's follower."""
        for loop, hub in self.by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(hub.end_followers)

    def call(self, function: Callable[[Hub], None]) -> None:
        """Call a function with every hub, in the hub's event loop; drop the hubs of loops that are closed."""
        for loop, hub in list(self.by_loop.items()):
            try:
                loop.call_soon_threadsafe(function, hub)
            except RuntimeError:  # the loop is closed
                with self._lock:
                    self.by_loop = {each: other for each, other in self.by_loop.items() if each is not loop}
