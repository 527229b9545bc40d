"""Who waits for what: replies by correlation id, changes by key or topic. One hub for each event loop.

The store is the truth. On a wake every followed topic is read from where this loop last was; each new record is looked up in
dictionaries of waiters. So a wake costs the records that are new, not the requests that wait, and it does not matter which
process of the host wrote them. Where this process is the writer, replies are dispatched to who waits for them even before they
are stored.
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
from kafkaproxy.worker.kafka.mailbox import late
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.types import Record

__all__ = ["Follower", "Hub", "in_turn"]

_STEP_SECONDS: Final = 0.005
"""How long the loop is kept busy with new records before others have their turn."""
_PER_STEP: Final = 100
_BYTES_PER_STEP: Final = 4 << 20
_LASTING: Final = (Unavailable.UNKNOWN_TOPIC, Unavailable.NOT_AUTHORIZED, Unavailable.STORE_FULL)
"""Why nothing will come of a topic until an operator does something; that no broker answers passes."""
_KEEP_SECONDS: Final = 60.0
_MOST_KEPT: Final = 10_000
T = TypeVar("T")
F = TypeVar("F", bound="Follower")
P = ParamSpec("P")
Future = asyncio.Future


def in_turn(partitions: Iterable[int], last: int) -> list[int]:
    """Return the partitions, first those after the one that was read last: a busy one does not hold up the others."""
    return sorted(partitions, key=lambda each: (each <= last, each))


class Follower(Protocol):
    """What follows a topic in one event loop. All methods are called from that loop."""

    def advance(self, store: Store, deadline: float) -> bool:
        """Read what is new, up to a time of the performance counter; return True if there is more."""
        ...

    def look_again(self) -> None:
        """Note that the store changed, though the end of the topic need not have moved."""
        ...

    def change(self, state: TopicState | None, store: Store) -> bool:
        """Take in another state of the topic, or that it is read no longer; return False if following it ends."""
        ...

    def end(self) -> None:
        """Stop following: the cluster's worker stops."""
        ...


@dataclass(slots=True)
class _Following:
    """A follower, and how many share it."""

    follower: Any
    users: int = 0


@dataclass(slots=True)
class _Tail:
    """How far this loop has seen a topic, and who waits for more."""

    key: bytes
    positions: dict[int, int]
    early: dict[bytes, set[Future[Record]]] = field(default_factory=dict)
    """Who takes a reply before it is stored. Other threads look into it."""
    dispatched: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Partition → from which offset up to which one every record was dispatched to them."""
    replies: dict[bytes, set[Future[Record]]] = field(default_factory=dict)
    keys: dict[bytes, set[asyncio.Event]] = field(default_factory=dict)
    changes: set[asyncio.Event] = field(default_factory=set)
    last: int = -1
    """The partition that was read last."""

    @property
    def awaits_replies(self) -> bool:
        return bool(self.early or self.replies)

    @property
    def idle(self) -> bool:
        return not (self.early or self.replies or self.keys or self.changes)

    def note_dispatched(self, partition: int, first: int, end: int) -> None:
        begin, reached = self.dispatched.get(partition, (first, first))
        self.dispatched[partition] = (begin if reached == first else first, end)

    def unseen(self, partition: int, start: int, end: int) -> int:
        """Return from where on somebody has yet to see records: what was dispatched, only who waits for the store has to."""
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
class _Shared:
    """Work that several requests wait for."""

    users: int = 0
    work: Future[Any] | None = None


class Hub:
    """The waiters of one event loop. Everything but :meth:`wake` is called from that loop."""

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
        """The places for merged answers that are under way."""
        self.correlation_headers = correlation_headers
        self._store = store
        self._topics = topics
        self._tails: dict[str, _Tail] = {}
        self._following: dict[str, _Following] = {}
        self._states: set[Future[None]] = set()
        self._exchanges: dict[str, _Shared] = {}
        self._turn = 0
        """With which topic the next step begins."""
        self._kept: dict[str, Future[Any]] = {}
        """The work of exchanges that ended while it was undecided, for the next of that name."""
        self._scheduled = False
        self._lock = threading.Lock()

    def move(self, store: Store) -> None:
        """Go on with another generation of the store: what waits here waits for what comes there."""
        self._store = store

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
    def reply(self, topic: str, correlation_id: bytes, *, early: bool = False) -> Iterator[Future[Record]]:
        """Wait for a reply. Registered at once, so look into the store, or produce, *inside* the context.

        ``early``: take it before it is stored. Not for who may look for it again: for a moment it would be gone.
        Fails with :class:`TopicUnavailable` where the topic is read no longer.
        """
        tail = self._tail(topic)
        future: Future[Record] = self.loop.create_future()
        with self._registered(topic, tail, tail.early if early else tail.replies, correlation_id, future):
            try:
                yield future
            finally:
                if future.done() and not future.cancelled():
                    future.exception()  # seen: who left on another ground has no use for it

    def dispatch_early(self, topic: str, records: Sequence[Record]) -> None:
        """Offer a reply topic's records before they are stored, to who takes them; from any thread.

        Nothing depends on it: whoever is missed is found when the store is read. Raises where the loop is closed.
        """
        tail = self._tails.get(topic)
        if tail is not None and tail.early:
            found = [(each, record) for record in records for each in self._correlation_ids(record) if each in tail.early]
            self.loop.call_soon_threadsafe(self._take, tail, _spans(records), found)

    def _take(self, tail: _Tail, spans: Mapping[int, tuple[int, int]], found: Iterable[tuple[bytes, Record]]) -> None:
        for partition, span in spans.items():
            tail.note_dispatched(partition, *span)
        for correlation_id, record in found:
            _finish(tail.early.get(correlation_id, ()), record)

    @contextlib.contextmanager
    def change(self, topic: str, key: bytes | None = None) -> Iterator[asyncio.Event]:
        """Follow ``key``, or all of the topic: the event is set by every change, retention and re-creation included.

        Clear it before looking at the store, wait for it after.
        """
        tail = self._tail(topic)
        event = asyncio.Event()
        if key is not None:
            with self._registered(topic, tail, tail.keys, key, event):
                yield event
            return
        tail.changes.add(event)
        try:
            yield event
        finally:
            tail.changes.discard(event)
            self._forget(topic, tail)

    @contextlib.contextmanager
    def exchange(
        self, name: str, start: Callable[Concatenate[Future[T] | None, P], Future[T]]
    ) -> Iterator[Callable[P, Future[T]]]:
        """Share one piece of work among all who are in an exchange of that name at once: the first to ask starts it.

        What failed is for who shared it until then: the next to ask starts anew. ``start`` is given what failed last.
        Wait for what is returned with ``await_shared``: it belongs to all of them. It is forgotten when the last one left; work
        that is undecided then is kept for the next of that name, until a minute after it is decided.
        """
        shared = self._exchanges.get(name)
        if shared is None:
            shared = self._exchanges[name] = _Shared(work=self._kept.pop(name, None))
        shared.users += 1

        def outcome(*args: P.args, **kwargs: P.kwargs) -> Future[T]:
            if shared.work is None or _has_failed(shared.work):
                shared.work = start(shared.work, *args, **kwargs)
            return shared.work

        try:
            yield outcome
        finally:
            shared.users -= 1
            if not shared.users:
                del self._exchanges[name]
                if shared.work is not None and (not shared.work.done() or late(shared.work) is not None):
                    self._keep(name, shared.work)

    def _keep(self, name: str, work: Future[Any]) -> None:
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[name] = work
        self.loop.call_later(_KEEP_SECONDS, self._stop_keeping, name, work)

    def _stop_keeping(self, name: str, work: Future[Any]) -> None:
        if self._kept.get(name) is work:
            del self._kept[name]
            if not work.done() or ((sent := late(work)) is not None and sent.outcome is None):
                self._keep(name, work)

    async def states_changed(self) -> None:
        """Wait until the states of topics changed."""
        future: Future[None] = self.loop.create_future()
        self._states.add(future)
        try:
            await future
        finally:
            self._states.discard(future)

    @contextlib.contextmanager
    def _registered(self, topic: str, tail: _Tail, waiting: dict[bytes, set[T]], key: bytes, waiter: T) -> Iterator[None]:
        waiting.setdefault(key, set()).add(waiter)
        try:
            yield
        finally:
            others = waiting[key]
            others.discard(waiter)
            if not others:
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
        deadline = time.perf_counter() + _STEP_SECONDS
        behind = False
        for tail in [each for each in self._tails.values() if each.awaits_replies]:
            behind |= self._advance_tail(tail, deadline)
        others = [each for each in self._tails.values() if not each.awaits_replies]
        work: list[_Tail | _Following] = [*others, *self._following.values()]
        for number in range(len(work)):
            if number and time.perf_counter() > deadline:
                self._turn, behind = self._turn + number, True
                break
            each = work[(self._turn + number) % len(work)]
            behind |= self._advance_tail(each, deadline) if isinstance(each, _Tail) else self._advance_follower(each, deadline)
        if behind:  # let requests in between; nothing is lost, the positions stay
            self.wake()

    def _advance_follower(self, following: _Following, deadline: float) -> bool:
        behind: bool = following.follower.advance(self._store, deadline)
        following.follower.look_again()
        return behind

    @contextlib.contextmanager
    def follow(self, topic: str, begin: Callable[[Store], F]) -> Iterator[F]:
        """Follow a topic with the follower that ``begin`` makes, or with the one that follows it already: it is shared."""
        following = self._following.get(topic)
        if following is None:
            following = self._following[topic] = _Following(begin(self._store))
        following.users += 1
        try:
            yield following.follower
        finally:
            following.users -= 1
            if not following.users and self._following.get(topic) is following:
                del self._following[topic]

    def advance(self, follower: Follower) -> None:
        """Bring a follower as far as the store is, or a step towards it; where that is about to happen, leave it to that.

        Each of many streams that catch up calls this, and all of them together must not hold up the loop.
        """
        if not self._scheduled and follower.advance(self._store, time.perf_counter() + _STEP_SECONDS):
            self.wake()

    def topics_changed(self) -> None:
        """Tell who waits for a topic's state."""
        _finish(self._states, None)
        for topic, following in list(self._following.items()):
            if not following.follower.change(self._topics().get(topic), self._store):
                del self._following[topic]
        for topic, tail in self._tails.items():
            state = self._topics().get(topic)
            if state is not None and state.key != tail.key:  # re-created, or seen for the first time
                tail.key, tail.positions, tail.dispatched = state.key, {}, {}
            if state is not None and state.error in _LASTING:
                tail.fail_replies(Unavailable(state.error))
            tail.wake_all()

    def end_followers(self) -> None:
        """End every follower: the cluster's worker stops."""
        followed, self._following = self._following, {}
        for following in followed.values():
            following.follower.end()

    def _advance_tail(self, tail: _Tail, deadline: float) -> bool:
        """Read what is new in a topic, up to a time of the performance counter; return True if there is still more."""
        if not tail.key:
            return False
        behind = moved = False
        ends = self._store.next_offsets(tail.key)
        for partition in in_turn(ends, tail.last):
            if moved and time.perf_counter() > deadline:
                return True
            start, end = tail.positions.get(partition, 0), ends[partition]
            if start >= end:
                if start > end:  # a log that was truncated, or is read anew, goes on from less
                    tail.positions[partition] = end
                    tail.dispatched.pop(partition, None)
                continue
            for event in tail.changes:  # without a record too: the end of a transaction moves a log on
                event.set()
            tail.last, moved = partition, True
            unseen = tail.unseen(partition, start, end)
            records, reached = self._store.read(tail.key, partition, unseen, end, _PER_STEP, _BYTES_PER_STEP)
            tail.positions[partition] = reached
            behind |= reached < end
            for record in records:
                self._dispatch(tail, record)
        return behind

    def _dispatch(self, tail: _Tail, record: Record) -> None:
        if tail.keys and record.key is not None:
            for event in tail.keys.get(record.key, ()):
                event.set()
        if tail.replies or tail.early:
            for correlation_id in self._correlation_ids(record):
                found = (*tail.replies.get(correlation_id, ()), *tail.early.get(correlation_id, ()))
                if waiting := [each for each in found if not each.done()]:
                    # Of several replies, the one that the index has: who asks again is given that one.
                    _finish(waiting, self._store.reply(tail.key, correlation_id) or record)

    def _correlation_ids(self, record: Record) -> list[bytes]:
        return [value for name, value in record.headers if name in self.correlation_headers and value is not None]


def _spans(records: Iterable[Record]) -> dict[int, tuple[int, int]]:
    """Return partition → the first offset, and the one after the last."""
    spans: dict[int, tuple[int, int]] = {}
    for record in records:
        first, _ = spans.get(record.partition, (record.offset, 0))
        spans[record.partition] = (first, record.offset + 1)
    return spans


def _finish(waiting: Iterable[Future[T]], result: T) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(result)


def _has_failed(work: Future[Any]) -> bool:
    return work.done() and (work.cancelled() or work.exception() is not None)
