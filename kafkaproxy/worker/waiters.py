"""Who waits for what: replies by correlation id, changes by key or topic. One hub for each event loop.

The store is the truth. On a wake every followed topic is read from where this loop last was; each new record is looked up in
dictionaries of waiters. So a wake costs the records that are new, not the requests that wait, and it does not matter which
process of the host wrote them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from kafkaproxy.worker.store import Store, TopicState
from kafkaproxy.worker.types import Record

__all__ = ["Hub"]

_PER_STEP: Final = 500
_BYTES_PER_STEP: Final = 4 << 20
T = TypeVar("T")
Future = asyncio.Future


@dataclass(slots=True)
class _Tail:
    """How far this loop has seen a topic, and who waits for more."""

    key: bytes
    positions: dict[int, int]
    replies: dict[bytes, set[Future[Record]]] = field(default_factory=dict)
    keys: dict[bytes, set[Future[None]]] = field(default_factory=dict)
    changes: set[Future[None]] = field(default_factory=set)

    @property
    def idle(self) -> bool:
        return not (self.replies or self.keys or self.changes)

    def wake_all(self) -> None:
        for waiting in (*self.keys.values(), self.changes):
            _finish(waiting, None)


class Hub:
    """The waiters of one event loop. Everything but :meth:`wake` is called from that loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        topics: Callable[[], Mapping[str, TopicState]],
        correlation_headers: frozenset[str],
    ) -> None:
        self.loop = loop
        self.correlation_headers = correlation_headers
        self._store = store
        self._topics = topics
        self._tails: dict[str, _Tail] = {}
        self._states: set[Future[None]] = set()
        self._scheduled = False
        self._lock = threading.Lock()

    def wake(self) -> None:
        """Look at the store soon; from any thread. Many wakes before that are one. Raises where the loop is closed."""
        with self._lock:
            if self._scheduled:
                return
            self._scheduled = True
        try:
            self.loop.call_soon_threadsafe(self._advance)
        except RuntimeError:
            self._scheduled = False
            raise

    @contextlib.contextmanager
    def reply(self, topic: str, correlation_id: bytes) -> Iterator[Future[Record]]:
        """Wait for a reply. Registered at once, so look into the store, or produce, *inside* the context."""
        tail = self._tail(topic)
        future: Future[Record] = self.loop.create_future()
        with self._registered(topic, tail, tail.replies, correlation_id, future):
            yield future

    @contextlib.contextmanager
    def change(self, topic: str, key: bytes | None = None) -> Iterator[Future[None]]:
        """Wait for a record of ``key``, or for any change of the topic, its retention and re-creation included."""
        tail = self._tail(topic)
        future: Future[None] = self.loop.create_future()
        if key is not None:
            with self._registered(topic, tail, tail.keys, key, future):
                yield future
            return
        tail.changes.add(future)
        try:
            yield future
        finally:
            tail.changes.discard(future)
            self._forget(topic, tail)

    async def states_changed(self) -> None:
        """Wait until the states of topics changed."""
        future: Future[None] = self.loop.create_future()
        self._states.add(future)
        try:
            await future
        finally:
            self._states.discard(future)

    @contextlib.contextmanager
    def _registered(
        self, topic: str, tail: _Tail, waiting: dict[bytes, set[Future[Any]]], key: bytes, future: Future[Any]
    ) -> Iterator[None]:
        waiting.setdefault(key, set()).add(future)
        try:
            yield
        finally:
            futures = waiting[key]
            futures.discard(future)
            if not futures:
                del waiting[key]
            self._forget(topic, tail)

    def _tail(self, topic: str) -> _Tail:
        tail = self._tails.get(topic)
        if tail is None:
            state = self._topics().get(topic)
            key = state.key if state is not None else b""
            tail = self._tails[topic] = _Tail(key, self._store.next_offsets(key) if key else {})
        return tail

    def _forget(self, topic: str, tail: _Tail) -> None:
        if tail.idle and self._tails.get(topic) is tail:
            del self._tails[topic]

    def _advance(self) -> None:
        self._scheduled = False
        behind = False
        for tail in list(self._tails.values()):
            behind |= self._advance_tail(tail)
        if behind:  # let requests in between; nothing is lost, the positions stay
            self.wake()

    def topics_changed(self) -> None:
        """Tell who waits for a topic's state."""
        _finish(self._states, None)
        for topic, tail in self._tails.items():
            state = self._topics().get(topic)
            if state is not None and state.key != tail.key:  # re-created, or seen for the first time
                tail.key, tail.positions = state.key, {}
            tail.wake_all()

    def _advance_tail(self, tail: _Tail) -> bool:
        """Read what is new in a topic; return whether there is still more."""
        if not tail.key:
            return False
        behind = False
        for partition, end in self._store.next_offsets(tail.key).items():
            start = tail.positions.get(partition, 0)
            if start >= end:
                continue
            records = self._store.read(tail.key, partition, start, _PER_STEP, _BYTES_PER_STEP)
            full = len(records) >= _PER_STEP or (records and records[-1].offset + 1 < end)
            tail.positions[partition] = records[-1].offset + 1 if full else end
            behind |= bool(full)
            for record in records:
                self._dispatch(tail, record)
        return behind

    def _dispatch(self, tail: _Tail, record: Record) -> None:
        _finish(tail.changes, None)
        if tail.keys and record.key is not None:
            _finish(tail.keys.get(record.key, ()), None)
        if tail.replies:
            for name, value in record.headers:
                if value is not None and name in self.correlation_headers:
                    _finish(tail.replies.get(value, ()), record)


def _finish(waiting: Iterable[Future[T]], result: T) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(result)
