"""The records of one event loop that librdkafka has: their reports, collected in batches, and the time that a request waits.

A request waits for its acknowledgement for a set time. librdkafka goes on with the record for much longer: giving up on one
makes an idempotent producer begin a new epoch, in which a broker writes again what it has from the last one.
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

__all__ = ["Mailbox", "NotInTime", "Outcome", "Overdue", "Sent", "late"]

Outcome = ProduceError | Delivery
Future = asyncio.Future[Delivery]
_MOST_OVERDUE: Final = 10_000
_MOST_OVERDUE_BYTES: Final = 64 << 20


class Sent:
    """A record that librdkafka has, or had. ``size`` is that of its value in bytes."""

    __slots__ = ("deadline", "future", "is_overdue", "outage", "outcome", "size", "topic")

    def __init__(self, topic: str, size: int, outage: Outage | None, future: Future | None, deadline: float) -> None:
        self.topic = topic
        self.size = size
        self.outage = outage
        """The outage in which it was handed over."""
        self.future = future
        """What the requests wait for; None where none waits."""
        self.deadline = deadline
        """When the requests are told that it took too long, by the loop's clock."""
        self.outcome: Outcome | None = None
        """What librdkafka reported; None until then."""
        self.is_overdue = False
        """Whether its requests were told that it took too long."""


class NotInTime(ProduceError):
    """The time for an answer was over. Kafka may yet acknowledge ``sent``."""

    def __init__(self, sent: Sent) -> None:
        super().__init__(ProduceFailure.TIMED_OUT, "Not acknowledged in time.")
        self.sent = sent


def late(work: asyncio.Future[Any]) -> Sent | None:
    """Return the record that failed this future by not being acknowledged in time, and may have been since."""
    error = work.exception() if work.done() and not work.cancelled() else None
    return error.sent if isinstance(error, NotInTime) else None


class Overdue:
    """How many records of each topic are overdue. Thread-safe.

    A topic that reaches 10,000 of them, or 64 MiB, is full until Kafka has taken some: a partition without a leader must not
    fill librdkafka's queue, which all topics of a producer share.
    """

    def __init__(self) -> None:
        self.full: frozenset[str] = frozenset()
        """The topics for which no more records are to be taken."""
        self._records: defaultdict[str, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def add(self, sent: Sent) -> None:
        """Count a record."""
        self._change(sent.topic, 1, sent.size)

    def remove(self, sent: Sent) -> None:
        """Count it no longer."""
        self._change(sent.topic, -1, -sent.size)

    def _change(self, topic: str, records: int, size: int) -> None:
        with self._lock:
            self._records[topic] += records
            self._bytes[topic] += size
            if self._records[topic] >= _MOST_OVERDUE or self._bytes[topic] >= _MOST_OVERDUE_BYTES:
                self.full |= {topic}
            elif topic in self.full:
                self.full -= {topic}
            if not self._records[topic]:
                del self._records[topic], self._bytes[topic]


class Mailbox:
    """Everything but :meth:`post` and :meth:`hurry` is called from the loop.

    ``deliver`` is called with each record that was reported and its future, unless that is done; ``expire`` with the records
    whose time is over, which are in ``overdue`` from then on until they are reported.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patience: float,
        deliver: Callable[[Future, Outcome], None],
        expire: Callable[[Sequence[Sent]], None],
        overdue: Overdue,
    ) -> None:
        self.loop = loop
        self._patience = patience
        self._deliver = deliver
        self._expire = expire
        self._overdue = overdue
        self._lock = threading.Lock()
        """Guards what librdkafka's reports and the loop share: reports, outcomes, and who is woken."""
        self._reports: deque[Sent] = deque()
        self._is_woken = False
        """Whether the loop is about to take its reports."""
        self._patient: set[Future] = set()
        self._waiting: dict[Sent, None] = {}
        """The records whose time runs, by their deadlines."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, topic: str, size: int, outage: Outage | None) -> Sent:
        """Return a record that is about to be handed over. Its future is done when it is reported, or its time is over."""
        return Sent(topic, size, outage, self.loop.create_future(), self.loop.time() + self._patience)

    def add(self, sent: Sent, *, patient: bool) -> None:
        """Let the time of a record run. ``patient``: see :meth:`AckedProducer.produce`."""
        self._waiting[sent] = None
        if patient:
            with self._lock:
                self._patient.add(sent.future)  # type: ignore[arg-type]  # it has one: nothing has become of it yet
        if self._timer is None:
            self._timer = self.loop.call_at(sent.deadline, self._look)

    def rejoin(self, sent: Sent, *, patient: bool) -> Future:
        """Return a future for a record that was overdue, or has been reported since."""
        future: Future = self.loop.create_future()
        with self._lock:
            outcome = sent.outcome
            self._note_in_time(sent)
            if outcome is None:
                sent.future, sent.deadline = future, self.loop.time() + self._patience
        if outcome is None:
            self.add(sent, patient=patient)
        elif isinstance(outcome, Delivery):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
        return future

    def settle(self, future: Future) -> None:
        """Say whether a patient future's record is acknowledged; from here on it is done at once."""
        with self._lock:
            self._patient.discard(future)
        self.collect()

    def post(self, sent: Sent, outcome: Outcome) -> bool:
        """Report a record; from any thread. Only the first of a batch that a request waits for wakes the loop.

        Return False where the loop is closed.
        """
        with self._lock:
            sent.outcome = outcome
            self._note_in_time(sent)
            self._reports.append(sent)
            if self._is_woken or (sent.future in self._patient and isinstance(outcome, Delivery)):
                return True
            self._is_woken = True
        return self._call(self.collect)

    def collect(self) -> None:
        """Take what was reported, and tell the requests."""
        with self._lock:
            reports, self._reports = self._reports, deque()
            self._is_woken = False
            futures = [(sent.future, sent.outcome) for sent in reports]
            self._patient.difference_update(future for future, _ in futures if future is not None)
        for sent in reports:
            self._waiting.pop(sent, None)
            sent.future = None
        for future, outcome in futures:
            if future is not None and not future.done():  # else the request was cancelled meanwhile, or told already
                assert outcome is not None
                self._deliver(future, outcome)

    def hurry(self, seconds: float) -> None:
        """Let a request wait no longer than this from now on; from any thread."""
        self._call(self._hurry, seconds)

    def _hurry(self, seconds: float) -> None:
        self._patience = min(self._patience, seconds)
        latest = self.loop.time() + self._patience
        for sent in self._waiting:
            sent.deadline = min(sent.deadline, latest)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(latest, self._look)

    def _look(self) -> None:
        """Tell the requests whose time is over. What was reported by now was in time."""
        self._timer = None
        self.collect()
        now = self.loop.time()
        due: list[Sent] = []
        for sent in self._waiting:
            if sent.deadline > now:
                self._timer = self.loop.call_at(sent.deadline, self._look)
                break
            due.append(sent)
        if due:
            self._end(due)

    def _end(self, due: Sequence[Sent]) -> None:
        for sent in due:
            del self._waiting[sent]
        with self._lock:
            due = [sent for sent in due if sent.outcome is None]  # the report of any other is on its way
            for sent in due:
                sent.is_overdue = True
                self._overdue.add(sent)
            self._patient.difference_update(sent.future for sent in due if sent.future is not None)
        if due:
            self._expire(due)

    def _note_in_time(self, sent: Sent) -> None:
        """Note that a record is overdue no longer."""
        if sent.is_overdue:
            sent.is_overdue = False
            self._overdue.remove(sent)

    def _call(self, call: Callable[..., None], *args: object) -> bool:
        try:
            self.loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed, and its requests are gone with it
            return False
        return True
