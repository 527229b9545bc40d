"""One event loop's waiting requests and open streams: replies by correlation id, changes by key or topic.

The store is the truth. On a wake-up every topic with waiters is read from where this loop last was, and each new record is
looked up in dictionaries of waiters. So a wake-up costs as much as there are new records, not as there are waiting requests,
and it does not matter which process of the host wrote them. Where this process is the writer, replies are also dispatched
early: to the requests that wait for them, before they are committed to the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.kafka.mailbox import unacknowledged_record
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.types import Record

__all__ = ["Follower", "Hub", "round_robin"]

_STEP_SECONDS: Final = 0.005
"""How long one step may occupy the event loop, so that other requests are served in between."""
_PER_STEP: Final = 100
_BYTES_PER_STEP: Final = 4 << 20
_PERMANENT: Final = (Unavailable.UNKNOWN_TOPIC, Unavailable.NOT_AUTHORIZED, Unavailable.STORE_FULL)
"""Errors that last until an operator does something. That no broker answers is not one of them: it passes by itself."""
_RETAIN_SECONDS: Final = 60.0
_MAX_RETAINED: Final = 10_000
T = TypeVar("T")
F = TypeVar("F", bound="Follower")
P = ParamSpec("P")
Future = asyncio.Future


def round_robin(partitions: Iterable[int], last: int) -> list[int]:
    """Return the partitions in reading order: those after ``last``, the one that was read last, come first.

    So a partition with many records does not delay the others.
    """
    return sorted(partitions, key=lambda each: (each <= last, each))


class Follower(Protocol):
    """Reads a topic for the open streams of one event loop. All methods are called from that loop."""

    def advance(self, store: Store, deadline: float) -> bool:
        """Read new records until ``deadline`` (``time.perf_counter()``); return True if there are more."""
        ...

    def mark_changed(self) -> None:
        """Take note that the store changed, even if the end of the topic did not move."""
        ...

    def change_topic(self, state: TopicState | None, store: Store) -> bool:
        """Apply a new state of the topic, None if it is no longer read; return False if following it ends."""
        ...

    def end(self) -> None:
        """Stop shared: the cluster's worker stops."""
        ...


@dataclass(slots=True)
class _SharedFollower:
    """A follower, and how many streams share it."""

    follower: Any
    users: int = 0


@dataclass(slots=True)
class _TopicWaiters:
    """How far this loop has read a topic, and what waits for its records and changes."""

    key: bytes
    positions: dict[int, int]
    early: dict[bytes, set[Future[Record]]] = field(default_factory=dict)
    """Correlation id → the requests that accept a reply before it is committed. Other threads look up ids here."""
    dispatched: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Partition → the range of offsets (from, before) in which every record was dispatched early."""
    replies: dict[bytes, set[Future[Record]]] = field(default_factory=dict)
    keys: dict[bytes, set[asyncio.Event]] = field(default_factory=dict)
    changes: set[asyncio.Event] = field(default_factory=set)
    last: int = -1
    """The partition that was read last; see :func:`round_robin`."""

    @property
    def awaits_replies(self) -> bool:
        return bool(self.early or self.replies)

    @property
    def is_idle(self) -> bool:
        return not (self.early or self.replies or self.keys or self.changes)

    def add_dispatched(self, partition: int, first: int, end: int) -> None:
        begin, reached = self.dispatched.get(partition, (first, first))
        self.dispatched[partition] = (begin if reached == first else first, end)

    def first_undelivered(self, partition: int, start: int, end: int) -> int:
        """Return the offset from which records have to be read from the store.

        Records that were dispatched early need not be read again, unless a request waits for what is in the store.
        """
        if self.replies or self.keys:
            return start
        begin, reached = self.dispatched.get(partition, (end, end))
        return min(reached, end) if begin <= start < reached else start

    def fail_replies(self, reason: Unavailable) -> None:
        for waiting in (*self.early.values(), *self.replies.values()):
            for future in waiting:
                if not future.done():
                    future.set_exception(TopicUnavailable(reason))

    def wake_all(self) -> None:
        for waiting in (*self.keys.values(), self.changes):
            for event in waiting:
                event.set()


@dataclass(slots=True)
class _SharedWork:
    """Work whose outcome several requests wait for."""

    users: int = 0
    work: Future[Any] | None = None


class Hub:
    """What waits in one event loop. Every method but :meth:`wake` and :meth:`dispatch_early` is called from that loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        topics: Callable[[], Mapping[str, TopicState]],
        correlation_headers: frozenset[str],
        max_merges: int,
    ) -> None:
        self.loop = loop
        self.merges = asyncio.Semaphore(max_merges)
        """Limits how many merged responses are made at once."""
        self.correlation_headers = correlation_headers
        self._store = store
        self._topics = topics
        self._topic_waiters: dict[str, _TopicWaiters] = {}
        self._followers: dict[str, _SharedFollower] = {}
        self._state_waiters: set[Future[None]] = set()
        self._exchanges: dict[str, _SharedWork] = {}
        self._turn = 0
        """Which topic the next step begins with."""
        self._undecided: dict[str, Future[Any]] = {}
        """Exchange name → work whose last user left while it was undecided. The next exchange of that name goes on with it."""
        self._scheduled = False
        self._lock = threading.Lock()

    def switch_store(self, store: Store) -> None:
        """Continue with another generation of the store; requests that wait here wait for its records."""
        self._store = store

    def wake(self) -> None:
        """Read the store soon; from any thread. Calls until then are merged. Raise ``RuntimeError`` if the loop is closed."""
        # Several threads wake a hub: those of the writer, and the listener of the store.
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
    def reply(self, topic: str, correlation_id: bytes, *, early: bool = False) -> Iterator[Future[Record]]:
        """Wait for a reply: give the future of its record.

        The wait is registered at once, so produce the request, or search the store, *inside* the context; a reply that arrives
        in between is not missed.

        ``early``: accept the reply before it is committed to the store. Do not use it for a request that may search for the
        reply again: for a moment the store does not hold it. The future fails with :class:`TopicUnavailable` if the topic is no
        longer read.
        """
        waiters = self._waiters(topic)
        future: Future[Record] = self.loop.create_future()
        with self._registered(topic, waiters, waiters.early if early else waiters.replies, correlation_id, future):
            try:
                yield future
            finally:
                if future.done() and not future.cancelled():
                    future.exception()  # marks the error as retrieved: the context may end for another reason

    def dispatch_early(self, topic: str, records: Sequence[Record]) -> None:
        """Dispatch a reply topic's records early to the requests that accept that; from any thread.

        Nothing depends on it: a request that is not reached finds the reply when the store is read. Raise ``RuntimeError`` if
        the loop is closed.
        """
        waiters = self._topic_waiters.get(topic)
        if waiters is not None and waiters.early:
            found = [(each, record) for record in records for each in self._correlation_ids(record) if each in waiters.early]
            self.loop.call_soon_threadsafe(self._deliver_early, waiters, _spans(records), found)

    def _deliver_early(
        self, waiters: _TopicWaiters, spans: Mapping[int, tuple[int, int]], found: Iterable[tuple[bytes, Record]]
    ) -> None:
        for partition, span in spans.items():
            waiters.add_dispatched(partition, *span)
        for correlation_id, record in found:
            _resolve(waiters.early.get(correlation_id, ()), record)

    @contextlib.contextmanager
    def change(self, topic: str, key: bytes | None = None) -> Iterator[asyncio.Event]:
        """Give an event that is set by every change of ``key``, or of any record of the topic without one.

        Retention and the re-creation of the topic are changes too. Clear the event before reading the store, wait for it after.
        """
        waiters = self._waiters(topic)
        event = asyncio.Event()
        if key is not None:
            with self._registered(topic, waiters, waiters.keys, key, event):
                yield event
            return
        waiters.changes.add(event)
        try:
            yield event
        finally:
            waiters.changes.discard(event)
            self._discard_if_idle(topic, waiters)

    @contextlib.contextmanager
    def exchange(
        self, name: str, start: Callable[Concatenate[Future[T] | None, P], Future[T]]
    ) -> Iterator[Callable[P, Future[T]]]:
        """Share one piece of work between all exchanges of a name: the first call of the given function starts it.

        A failure concerns the exchanges that shared the work until then: the next call starts it again, and ``start`` is given
        the work that failed last. Wait for the future with ``await_shared``, since it belongs to all of them. The work is
        forgotten when the last exchange ends; if it is undecided then, it is kept for the next exchange of that name, until a
        minute after it is decided.
        """
        shared = self._exchanges.get(name)
        if shared is None:
            shared = self._exchanges[name] = _SharedWork(work=self._undecided.pop(name, None))
        shared.users += 1

        def shared_work(*args: P.args, **kwargs: P.kwargs) -> Future[T]:
            if shared.work is None or _has_failed(shared.work):
                shared.work = start(shared.work, *args, **kwargs)
            return shared.work

        try:
            yield shared_work
        finally:
            shared.users -= 1
            if not shared.users:
                del self._exchanges[name]
                if shared.work is not None and (not shared.work.done() or unacknowledged_record(shared.work) is not None):
                    self._retain(name, shared.work)

    def _retain(self, name: str, work: Future[Any]) -> None:
        if len(self._undecided) >= _MAX_RETAINED:
            del self._undecided[next(iter(self._undecided))]
        self._undecided[name] = work
        self.loop.call_later(_RETAIN_SECONDS, self._expire_retained, name, work)

    def _expire_retained(self, name: str, work: Future[Any]) -> None:
        if self._undecided.get(name) is work:
            del self._undecided[name]
            if not work.done() or ((pending := unacknowledged_record(work)) is not None and pending.outcome is None):
                self._retain(name, work)

    async def states_changed(self) -> None:
        """Wait until the state of any topic changed."""
        future: Future[None] = self.loop.create_future()
        self._state_waiters.add(future)
        try:
            await future
        finally:
            self._state_waiters.discard(future)

    @contextlib.contextmanager
    def _registered(
        self, topic: str, waiters: _TopicWaiters, waiting: dict[bytes, set[T]], key: bytes, waiter: T
    ) -> Iterator[None]:
        waiting.setdefault(key, set()).add(waiter)
        try:
            yield
        finally:
            others = waiting[key]
            others.discard(waiter)
            if not others:
                del waiting[key]
            self._discard_if_idle(topic, waiters)

    def _waiters(self, topic: str) -> _TopicWaiters:
        waiters = self._topic_waiters.get(topic)
        if waiters is None:
            state = self._topics().get(topic)
            key = state.key if state is not None else b""
            waiters = self._topic_waiters[topic] = _TopicWaiters(key, self._store.next_offsets(key) if key else {})
        return waiters

    def _discard_if_idle(self, topic: str, waiters: _TopicWaiters) -> None:
        if waiters.is_idle and self._topic_waiters.get(topic) is waiters:
            del self._topic_waiters[topic]

    def _advance(self) -> None:
        self._scheduled = False
        deadline = time.perf_counter() + _STEP_SECONDS
        behind = False
        # Replies come first: a request waits for one. The rest takes turns, beginning with another topic in each step.
        for waiters in [each for each in self._topic_waiters.values() if each.awaits_replies]:
            behind |= self._advance_waiters(waiters, deadline)
        others = [each for each in self._topic_waiters.values() if not each.awaits_replies]
        work: list[_TopicWaiters | _SharedFollower] = [*others, *self._followers.values()]
        for number in range(len(work)):
            if number and time.perf_counter() > deadline:
                self._turn, behind = self._turn + number, True
                break
            each = work[(self._turn + number) % len(work)]
            behind |= (
                self._advance_waiters(each, deadline)
                if isinstance(each, _TopicWaiters)
                else self._advance_follower(each, deadline)
            )
        if behind:  # yield to other requests; nothing is lost, since the positions stay
            self.wake()

    def _advance_follower(self, shared: _SharedFollower, deadline: float) -> bool:
        behind: bool = shared.follower.advance(self._store, deadline)
        shared.follower.mark_changed()
        return behind

    @contextlib.contextmanager
    def follow(self, topic: str, begin: Callable[[Store], F]) -> Iterator[F]:
        """Share the follower of a topic: ``begin`` makes it if the topic has none; it ends with its last user."""
        shared = self._followers.get(topic)
        if shared is None:
            shared = self._followers[topic] = _SharedFollower(begin(self._store))
        shared.users += 1
        try:
            yield shared.follower
        finally:
            shared.users -= 1
            if not shared.users and self._followers.get(topic) is shared:
                del self._followers[topic]

    def advance(self, follower: Follower) -> None:
        """Let a follower read one step now; if more is left, it goes on with the next wake-up.

        Where a wake-up is due, it is left to that: each of many streams that catch up calls this, and together they must not
        hold up the loop.
        """
        if not self._scheduled and follower.advance(self._store, time.perf_counter() + _STEP_SECONDS):
            self.wake()

    def topics_changed(self) -> None:
        """Apply changed topic states: wake what waits for them, and start again where a topic was re-created."""
        _resolve(self._state_waiters, None)
        for topic, shared in list(self._followers.items()):
            if not shared.follower.change_topic(self._topics().get(topic), self._store):
                del self._followers[topic]
        for topic, waiters in self._topic_waiters.items():
            state = self._topics().get(topic)
            # Another key is another log: positions in the former one mean nothing there.
            if state is not None and state.key != waiters.key:  # re-created, or seen for the first time
                waiters.key, waiters.positions, waiters.dispatched = state.key, {}, {}
            if state is not None and state.error in _PERMANENT:
                waiters.fail_replies(Unavailable(state.error))
            waiters.wake_all()

    def end_followers(self) -> None:
        """End every follower, because the cluster's worker stops."""
        followed, self._followers = self._followers, {}
        for shared in followed.values():
            shared.follower.end()

    def _advance_waiters(self, waiters: _TopicWaiters, deadline: float) -> bool:
        """Read new records of a topic until ``deadline`` (``time.perf_counter()``); return True if there are more."""
        if not waiters.key:
            return False
        behind = moved = False
        ends = self._store.next_offsets(waiters.key)
        for partition in round_robin(ends, waiters.last):
            if moved and time.perf_counter() > deadline:
                return True
            start, end = waiters.positions.get(partition, 0), ends[partition]
            if start >= end:
                if start > end:  # a log that was truncated or is read again continues at a lower offset
                    waiters.positions[partition] = end
                    waiters.dispatched.pop(partition, None)
                continue
            for event in waiters.changes:  # even without a record: the end of a transaction moves the position
                event.set()
            waiters.last, moved = partition, True
            first_undelivered = waiters.first_undelivered(partition, start, end)
            # Bounded, so that the deadline is checked often: the event loop serves other requests in between.
            records, reached = self._store.read(waiters.key, partition, first_undelivered, end, _PER_STEP, _BYTES_PER_STEP)
            waiters.positions[partition] = reached
            behind |= reached < end
            for record in records:
                self._dispatch(waiters, record)
        return behind

    def _dispatch(self, waiters: _TopicWaiters, record: Record) -> None:
        if waiters.keys and record.key is not None:
            for event in waiters.keys.get(record.key, ()):
                event.set()
        if waiters.replies or waiters.early:
            for correlation_id in self._correlation_ids(record):
                found = (*waiters.replies.get(correlation_id, ()), *waiters.early.get(correlation_id, ()))
                if waiting := [each for each in found if not each.done()]:
                    # If there are several replies, use the one in the index: a repeated request is given that one too.
                    _resolve(waiting, self._store.reply(waiters.key, correlation_id) or record)

    def _correlation_ids(self, record: Record) -> list[bytes]:
        return [value for name, value in record.headers if name in self.correlation_headers and value is not None]


def _spans(records: Iterable[Record]) -> dict[int, tuple[int, int]]:
    """Return partition → the first offset, and the offset after the last."""
    spans: dict[int, tuple[int, int]] = {}
    for record in records:
        first, _ = spans.get(record.partition, (record.offset, 0))
        spans[record.partition] = (first, record.offset + 1)
    return spans


def _resolve(waiting: Iterable[Future[T]], result: T) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(result)


def _has_failed(work: Future[Any]) -> bool:
    return work.done() and (work.cancelled() or work.exception() is not None)
