"""An event loop's records at librdkafka: delivery reports, collected in batches, and the time-outs of the requests.

A request waits a set time for its acknowledgement. librdkafka retries the record for much longer: an idempotent producer that
gives up on a record begins a new epoch, in which a broker would write again what it has from the last one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from kafkaproxy.worker.errors import ProduceError, ProduceFailure
from kafkaproxy.worker.kafka.reachability import Outage
from kafkaproxy.worker.types import Delivery

__all__ = ["Mailbox", "NotInTime", "Outcome", "OverdueRecords", "PendingRecord", "unacknowledged_record"]

Outcome = ProduceError | Delivery
Future = asyncio.Future[Delivery]
_MAX_OVERDUE_RECORDS: Final = 10_000
_MAX_OVERDUE_BYTES: Final = 64 << 20


class PendingRecord:
    """A record that was handed to librdkafka. ``size`` is the size of its value in bytes."""

    __slots__ = ("deadline", "future", "is_overdue", "outage", "outcome", "size", "topic")

    def __init__(self, topic: str, size: int, outage: Outage | None, future: Future | None, deadline: float) -> None:
        self.topic = topic
        self.size = size
        self.outage = outage
        """The outage that lasted when it was produced; None if there was none."""
        self.future = future
        """The future that the requests wait for; None if none waits."""
        self.deadline = deadline
        """When the future fails because of time, by the loop's clock."""
        self.outcome: Outcome | None = None
        """What librdkafka reported; None until then."""
        self.is_overdue = False
        """True if the future failed because of time and librdkafka has not reported since."""


class NotInTime(ProduceError):
    """The time for the acknowledgement is over. Kafka may still acknowledge ``pending``."""

    def __init__(self, pending: PendingRecord) -> None:
        super().__init__(ProduceFailure.TIMED_OUT, "Not acknowledged in time.")
        self.pending = pending


def unacknowledged_record(work: asyncio.Future[Any]) -> PendingRecord | None:
    """Return the record whose acknowledgement did not come in time, if that is why the future failed; else None.

    The record may have been acknowledged since: see its ``outcome``.
    """
    error = work.exception() if work.done() and not work.cancelled() else None
    return error.pending if isinstance(error, NotInTime) else None


class OverdueRecords:
    """Counts the overdue records of each topic. Thread-safe.

    A topic with 10,000 of them, or 64 MiB, is full until Kafka has acknowledged some: a partition without a leader must not
    fill librdkafka's queue, which all topics of a producer share.
    """

    def __init__(self) -> None:
        self.full: frozenset[str] = frozenset()
        """The topics for which no more records are accepted."""
        self._records: defaultdict[str, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def add(self, pending: PendingRecord) -> None:
        """Count a record."""
        self._change(pending.topic, 1, pending.size)

    def remove(self, pending: PendingRecord) -> None:
        """Stop counting a record."""
        self._change(pending.topic, -1, -pending.size)

    def _change(self, topic: str, records: int, size: int) -> None:
        with self._lock:
            self._records[topic] += records
            self._bytes[topic] += size
            if self._records[topic] >= _MAX_OVERDUE_RECORDS or self._bytes[topic] >= _MAX_OVERDUE_BYTES:
                self.full |= {topic}
            elif topic in self.full:
                self.full -= {topic}
            if not self._records[topic]:
                del self._records[topic], self._bytes[topic]


class Mailbox:
    """Matches delivery reports to the futures of one event loop.

    Every method but :meth:`post` and :meth:`shorten_waits` is called from that loop. ``deliver`` is called with the future and
    the outcome of each reported record, unless the future is done; ``expire`` with the records whose time is over. Those are
    counted in ``overdue`` until they are reported.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        deliver: Callable[[Future, Outcome], None],
        expire: Callable[[Sequence[PendingRecord]], None],
        overdue: OverdueRecords,
    ) -> None:
        self.loop = loop
        self._timeout = timeout
        self._deliver = deliver
        self._expire = expire
        self._overdue = overdue
        self._lock = threading.Lock()
        """Guards what librdkafka's threads and the loop share: reports, outcomes, deferred futures, and ``_is_woken``."""
        self._reports: deque[PendingRecord] = deque()
        self._is_woken = False
        """True if the loop is about to collect the reports."""
        self._deferred: set[Future] = set()
        self._waiting: dict[PendingRecord, None] = {}
        """The records whose time runs, ordered by deadline."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, topic: str, size: int, outage: Outage | None) -> PendingRecord:
        """Return a record that is about to be produced, with the future of its acknowledgement."""
        return PendingRecord(topic, size, outage, self.loop.create_future(), self.loop.time() + self._timeout)

    def add(self, pending: PendingRecord, *, defer_ack: bool) -> None:
        """Start the time of a record. ``defer_ack``: see :meth:`AckedProducer.produce`."""
        self._waiting[pending] = None
        if defer_ack:
            with self._lock:
                self._deferred.add(pending.future)  # type: ignore[arg-type]  # it has one: nothing has become of it yet
        if self._timer is None:
            self._timer = self.loop.call_at(pending.deadline, self._expire_due)

    def wait_again(self, pending: PendingRecord, *, defer_ack: bool) -> Future:
        """Return a new future for a record that was overdue; it is done at once if the record has been reported since."""
        future: Future = self.loop.create_future()
        # Reading the outcome and setting the future is one step: a report in between would find no future to finish.
        with self._lock:
            outcome = pending.outcome
            self._clear_overdue(pending)
            if outcome is None:
                pending.future, pending.deadline = future, self.loop.time() + self._timeout
        if outcome is None:
            self.add(pending, defer_ack=defer_ack)
        elif isinstance(outcome, Delivery):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
        return future

    def deliver_ack(self, future: Future) -> None:
        """Stop deferring an acknowledgement: the future is done now if its record is acknowledged, else as soon as it is."""
        with self._lock:
            self._deferred.discard(future)
        self.collect()

    def post(self, pending: PendingRecord, outcome: Outcome) -> bool:
        """Add the report of a record; from any thread. Return False if the loop is closed.

        The loop is woken once for a batch of reports, and not at all for acknowledgements that are deferred: a wake-up for
        every record would cost more than the records.
        """
        with self._lock:
            pending.outcome = outcome
            self._clear_overdue(pending)
            self._reports.append(pending)
            if self._is_woken or (pending.future in self._deferred and isinstance(outcome, Delivery)):
                return True
            self._is_woken = True
        return self._call(self.collect)

    def collect(self) -> None:
        """Collect the reports and finish their futures."""
        with self._lock:
            reports, self._reports = self._reports, deque()
            self._is_woken = False
            futures = [(pending.future, pending.outcome) for pending in reports]
            self._deferred.difference_update(future for future, _ in futures if future is not None)
        for pending in reports:
            self._waiting.pop(pending, None)
            pending.future = None
        for future, outcome in futures:
            if future is not None and not future.done():  # else the request was cancelled, or its time was over
                assert outcome is not None
                self._deliver(future, outcome)

    def shorten_waits(self, seconds: float) -> None:
        """Let no request wait longer than ``seconds`` from now on; from any thread."""
        self._call(self._shorten_waits, seconds)

    def _shorten_waits(self, seconds: float) -> None:
        self._timeout = min(self._timeout, seconds)
        latest = self.loop.time() + self._timeout
        for pending in self._waiting:
            # All get the same deadline at most, so the order by deadline stays.
            pending.deadline = min(pending.deadline, latest)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(latest, self._expire_due)

    def _expire_due(self) -> None:
        """Fail the futures whose time is over. What was reported by now was in time."""
        self._timer = None
        self.collect()
        now = self.loop.time()
        due: list[PendingRecord] = []
        for pending in self._waiting:
            if pending.deadline > now:
                self._timer = self.loop.call_at(pending.deadline, self._expire_due)
                break
            due.append(pending)
        if due:
            self._mark_overdue(due)

    def _mark_overdue(self, due: Sequence[PendingRecord]) -> None:
        for pending in due:
            del self._waiting[pending]
        with self._lock:
            due = [pending for pending in due if pending.outcome is None]  # the others were reported meanwhile
            for pending in due:
                pending.is_overdue = True
                self._overdue.add(pending)
            self._deferred.difference_update(pending.future for pending in due if pending.future is not None)
        if due:
            self._expire(due)

    def _clear_overdue(self, pending: PendingRecord) -> None:
        """Stop counting a record as overdue."""
        if pending.is_overdue:
            pending.is_overdue = False
            self._overdue.remove(pending)

    def _call(self, call: Callable[..., None], *args: object) -> bool:
        try:
            self.loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed, and so are its requests
            return False
        return True
