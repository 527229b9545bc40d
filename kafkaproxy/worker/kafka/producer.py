"""Producing: one librdkafka producer for each kind of acknowledgement. Its reports go to the mailboxes of event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from kafkaproxy.metrics import RECORDS
from kafkaproxy.worker.errors import ProduceError, ProduceFailure
from kafkaproxy.worker.kafka.client import Limits, producer_config
from kafkaproxy.worker.kafka.log_rate_limit import librdkafka_log
from kafkaproxy.worker.kafka.mailbox import Mailbox, NotInTime, Outcome, OverdueRecords, PendingRecord
from kafkaproxy.worker.kafka.reachability import Outage, Reachability
from kafkaproxy.worker.types import Acks, ClusterConfig, Delivery, Headers

__all__ = ["AckedProducer"]

log = logging.getLogger("kafkaproxy.producer")

_FAILURES: Final[Mapping[int, ProduceFailure]] = {
    KafkaError.MSG_SIZE_TOO_LARGE: ProduceFailure.TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE: ProduceFailure.TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE: ProduceFailure.TOO_LARGE,
    KafkaError.INVALID_RECORD: ProduceFailure.REJECTED,
    KafkaError.INVALID_MSG: ProduceFailure.REJECTED,
    KafkaError.INVALID_TIMESTAMP: ProduceFailure.REJECTED,
    KafkaError.INVALID_REQUIRED_ACKS: ProduceFailure.REJECTED,
    KafkaError.POLICY_VIOLATION: ProduceFailure.REJECTED,
    KafkaError.TOPIC_EXCEPTION: ProduceFailure.UNKNOWN_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART: ProduceFailure.UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_TOPIC: ProduceFailure.UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION: ProduceFailure.UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError.TOPIC_AUTHORIZATION_FAILED: ProduceFailure.NOT_AUTHORIZED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: ProduceFailure.NOT_AUTHORIZED,
    KafkaError._AUTHENTICATION: ProduceFailure.NOT_AUTHORIZED,  # noqa: SLF001
    KafkaError._TRANSPORT: ProduceFailure.UNREACHABLE,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN: ProduceFailure.UNREACHABLE,  # noqa: SLF001
    KafkaError._PURGE_QUEUE: ProduceFailure.TIMED_OUT,  # noqa: SLF001
    KafkaError._PURGE_INFLIGHT: ProduceFailure.TIMED_OUT,  # noqa: SLF001
    KafkaError._QUEUE_FULL: ProduceFailure.QUEUE_FULL,  # noqa: SLF001
    KafkaError.NOT_ENOUGH_REPLICAS: ProduceFailure.UNREACHABLE,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ProduceFailure.TIMED_OUT,
    KafkaError._MSG_TIMED_OUT: ProduceFailure.TIMED_OUT,  # noqa: SLF001
    KafkaError._TIMED_OUT: ProduceFailure.TIMED_OUT,  # noqa: SLF001
    KafkaError.REQUEST_TIMED_OUT: ProduceFailure.TIMED_OUT,
}
_UNCERTAIN: Final = frozenset(
    {KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}  # noqa: SLF001
)
"""Errors after which librdkafka does not know if a broker has the record."""
_PURGE_SECONDS: Final = 0.5
_QUEUED, _IN_FLIGHT = KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT  # noqa: SLF001


class AckedProducer:
    """Produces records and returns futures of their acknowledgements. Thread-safe; a future belongs to the loop that called."""

    def __init__(self, cluster: ClusterConfig, servers: str, acks: Acks, limits: Limits) -> None:
        self._config = producer_config(cluster, servers, acks, limits)
        self._name = f"{cluster.name}/{acks}"
        self._cluster = cluster.name
        self._acknowledged = RECORDS.cell(cluster.name, "acknowledged")
        self._timeout = limits.produce_timeout
        self._mailboxes: dict[asyncio.AbstractEventLoop, Mailbox] = {}
        self._overdue = OverdueRecords()
        self._lock = threading.Lock()
        self._brokers = Reachability(
            cluster.name, self._name, lambda seconds: self._producer.list_topics(timeout=seconds), self.queued
        )
        self._closed = threading.Event()
        self._undelivered: Counter[tuple[str, int]] = Counter()
        """Topic and error code → how many records were given up since the stop began."""
        self._stopping = False
        self._generation = 0
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._poll, name=f"kafkaproxy-produce-{self._name}", daemon=True)
        self._thread.start()
        self._brokers.check_brokers()

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, defer_ack: bool = False
    ) -> asyncio.Future[Delivery]:
        """Produce a record; the future is done when it is acknowledged, or fails with :class:`ProduceError`.

        It fails by itself after ``PRODUCE_TIMEOUT_SECONDS``; the record may nevertheless be written, now or later. Raise
        :class:`ProduceError` at once if the record is not accepted.

        ``defer_ack``: the caller waits for something else first, such as a reply, and need not be woken for the
        acknowledgement. The future is done after :meth:`deliver_ack`, which has to be called; a failure is reported at once.
        """
        brokers = self._brokers
        if brokers.refusal is not None:
            raise self._refused(brokers.refusal, "No broker answers: nothing is sent until one does.")
        if topic in self._overdue.full:
            raise self._refused(ProduceFailure.QUEUE_FULL, f"Kafka has not taken too many records of {topic}.")
        mailbox = self._mailbox()
        pending = mailbox.begin(topic, 0 if value is None else len(value), brokers.outage)
        future = pending.future
        assert future is not None

        def report(error: KafkaError | None, message: Message) -> None:
            # Not the message itself: it holds the value in memory, and a report may have to wait.
            self._report(mailbox, pending, error, _delivery(message) if error is None else self._error(error, pending.outage))

        try:
            self._producer.produce(topic, value, key, headers=list(headers), on_delivery=report)
        except BufferError as error:
            raise ProduceError(ProduceFailure.QUEUE_FULL, str(error)) from error
        except KafkaException as error:
            raise self._error(error.args[0]) from error
        mailbox.add(pending, defer_ack=defer_ack)
        return future

    def wait_again(self, pending: PendingRecord, *, defer_ack: bool = False) -> asyncio.Future[Delivery]:
        """Wait once more, as :meth:`produce` does, for a record whose first request was not acknowledged in time."""
        return self._mailbox().wait_again(pending, defer_ack=defer_ack)

    def deliver_ack(self, future: asyncio.Future[Delivery]) -> None:
        """Stop deferring an acknowledgement: the future is done now if its record is acknowledged, else as soon as it is."""
        mailbox = self._mailboxes.get(future.get_loop())
        if mailbox is not None:
            mailbox.deliver_ack(future)

    def queued(self) -> int:
        """Return how many records are not acknowledged yet."""
        return len(self._producer)

    def shorten_waits(self, seconds: float) -> None:
        """Let no request wait longer than ``seconds`` for its acknowledgement from now on: the process stops."""
        self._stopping = True
        self._timeout = min(self._timeout, seconds)
        for mailbox in tuple(self._mailboxes.values()):
            mailbox.shorten_waits(seconds)

    def close(self, timeout: float) -> None:
        """Flush for up to ``timeout`` seconds, log what was not delivered, and stop."""
        self._stopping = True
        self._producer.flush(timeout)
        self._brokers.close()
        self._closed.set()
        self._purge_rest()
        self._thread.join(timeout=2)

    def _mailbox(self) -> Mailbox:
        loop = asyncio.get_running_loop()
        mailbox = self._mailboxes.get(loop)
        if mailbox is None:
            made = Mailbox(loop, self._timeout, self._deliver, self._expire, self._overdue)
            mailbox = self._mailboxes.setdefault(loop, made)
        return mailbox

    def _new_producer(self) -> Producer:
        return Producer({**self._config, "error_cb": partial(self._on_error, self._generation)})

    def _poll(self) -> None:
        while not self._closed.is_set():
            generation, producer = self._generation, self._producer
            try:
                producer.poll(0.1)
            except KafkaException as error:  # the client library raises a fatal error here
                self._on_error(generation, error.args[0])
            except Exception:
                # If this thread ended, no request would get an acknowledgement again.
                log.exception("producer_failed producer=%s", self._name)

    def _report(self, mailbox: Mailbox, pending: PendingRecord, error: KafkaError | None, outcome: Outcome) -> None:
        if self._stopping and error is not None and error.code() in (_QUEUED, _IN_FLIGHT):
            self._undelivered[pending.topic, error.code()] += 1
        if not mailbox.post(pending, outcome):
            self._mailboxes.pop(mailbox.loop, None)

    def _deliver(self, future: asyncio.Future[Delivery], outcome: Outcome) -> None:
        if isinstance(outcome, Delivery):
            self._acknowledged.value += 1
            if self._brokers.outage is not None:
                self._brokers.mark_reachable()
            future.set_result(outcome)
        else:
            RECORDS.cell(self._cluster, outcome.reason).value += 1
            future.set_exception(outcome)

    def _expire(self, due: Sequence[PendingRecord]) -> None:
        """Fail the futures whose time is over.

        Records of a lasting outage were never sent if the producer had no others when it began. They are purged, so that they
        are not written after their requests were told that Kafka cannot be reached. Any other record stays: a broker may have
        it, and a broker rejects the records of an idempotent producer after a gap in their sequence.
        """
        # Taken once: another thread may end the outage meanwhile.
        lasting = self._brokers.outage
        for pending in due:
            unsent = lasting is not None and lasting.is_clean and pending.outage is lasting
            if lasting is not None and unsent:
                outcome = ProduceError(lasting.reason, "No broker answered in time.")
            else:
                outcome = NotInTime(pending)
            if unsent and self.queued():
                self._replace(self._generation)
            if pending.future is not None and not pending.future.done():
                self._deliver(pending.future, outcome)
            pending.future = None
        self._brokers.check_brokers()

    def _refused(self, reason: ProduceFailure, detail: str) -> ProduceError:
        RECORDS.cell(self._cluster, reason).value += 1
        return ProduceError(reason, detail)

    def _error(self, error: KafkaError, outage: Outage | None = None) -> ProduceError:
        """Return the failure of a record that was produced in ``outage``.

        If that outage still lasts, the record was not sent. Otherwise it may have been, and only its acknowledgement be
        missing.
        """
        reason = _FAILURES.get(error.code(), ProduceFailure.UNREACHABLE)
        if error.code() in _UNCERTAIN:
            if outage is not None and outage is self._brokers.outage:
                reason = outage.reason
            self._brokers.check_brokers()
        return ProduceError(reason, f"{error.name()}: {error.str()}")

    def _on_error(self, generation: int, error: KafkaError) -> None:
        """Handle an error that concerns no single record; librdkafka retries by itself."""
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):  # noqa: SLF001
            self._brokers.check_brokers(_FAILURES[error.code()])
        if error.fatal() and self._replace(generation):
            log.error("producer_recreated producer=%s error=%s", self._name, error.name())
        librdkafka_log.warning("producer_error producer=%s error=%s", self._name, error.name())

    def _replace(self, generation: int) -> bool:
        """Replace the producer of this generation and purge its records; return True if it was still the present one.

        An idempotent producer that cannot keep its guarantee fails for good, and one that has lost a record has a gap in its
        sequence.
        """
        with self._lock:
            # Several threads may see the same fatal error; only the first one replaces the producer.
            if self._closed.is_set() or generation != self._generation:
                return False
            self._generation += 1
            old, self._producer = self._producer, self._new_producer()
        # In a thread, since purging waits for the reports of all records of the old producer.
        threading.Thread(target=_purge, args=(old,), name=f"kafkaproxy-purge-{self._name}", daemon=True).start()
        return True

    def _purge_rest(self) -> None:
        """Purge the remaining records, and log how many were not delivered since the stop began."""
        _purge(self._producer, _PURGE_SECONDS)
        for topic in sorted({topic for topic, _ in self._undelivered}):
            unsent, in_flight = self._undelivered[topic, _QUEUED], self._undelivered[topic, _IN_FLIGHT]
            log.error(
                "records_not_delivered producer=%s topic=%s unsent=%s unconfirmed=%s", self._name, topic, unsent, in_flight
            )


def _delivery(message: Message) -> Delivery:
    offset = message.offset()
    return Delivery(message.topic() or "", message.partition() or 0, -1 if offset is None else offset)


def _purge(producer: Producer, seconds: float = math.inf) -> None:
    """Purge a producer: every record that it still has is reported as failed."""
    until = time.monotonic() + seconds
    while len(producer) and time.monotonic() < until:
        producer.purge()
        with contextlib.suppress(KafkaException):  # it reports its fatal error again
            producer.flush(0.1)
