"""Producing: one librdkafka producer per kind of acknowledgement. Its reports go to the mailboxes of event loops."""

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
from kafkaproxy.worker.kafka.mailbox import Mailbox, Outcome, OverdueRecords, PendingRecord
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
"""How a record ends of which librdkafka does not know whether a broker has it."""
_PURGE_SECONDS: Final = 0.5
_QUEUED, _IN_FLIGHT = KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT  # noqa: SLF001


class AckedProducer:
    """A producer whose records are futures. Thread-safe; futures belong to the loop that called."""

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
        """Topic and code of the error → how many records were given up since it was told to stop."""
        self._stopping = False
        self._generation = 0
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._poll, name=f"kafkaproxy-produce-{self._name}", daemon=True)
        self._thread.start()
        self._brokers.check_brokers()

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, defer_ack: bool = False
    ) -> asyncio.Future[Delivery]:
        """Hand a record over; the future is done when it is acknowledged, or failed with :class:`ProduceError`.

        It fails by itself after ``PRODUCE_TIMEOUT_SECONDS``; the record may be written nevertheless, now or later.

        ``defer_ack``: the caller waits for something else first and need not be woken for an acknowledgement. The future is done
        when :meth:`settle` is called, which has to be; a failure is told at once.
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
            # Not the message itself: it holds the value, and a report may have to wait.
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
        """Wait again, as :meth:`produce` does, for a record whose first request was told that it took too long."""
        return self._mailbox().wait_again(pending, defer_ack=defer_ack)

    def deliver_ack(self, future: asyncio.Future[Delivery]) -> None:
        """Say whether a defer_ack future's record is acknowledged; from here on it is done at once."""
        mailbox = self._mailboxes.get(future.get_loop())
        if mailbox is not None:
            mailbox.deliver_ack(future)

    def queued(self) -> int:
        """Return how many records are not acknowledged yet."""
        return len(self._producer)

    def shorten_waits(self, seconds: float) -> None:
        """Let a request wait no longer than this for its acknowledgement from now on: the process stops."""
        self._stopping = True
        self._timeout = min(self._timeout, seconds)
        for mailbox in tuple(self._mailboxes.values()):
            mailbox.shorten_waits(seconds)

    def close(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for what was handed over, say in the log what was not delivered, and stop."""
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
            except KafkaException as error:  # how the client tells of a fatal error
                self._on_error(generation, error.args[0])
            except Exception:
                # Whatever it was: without this thread nobody would hear of a record again.
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
        """Tell requests that their time is over.

        What was handed over in an outage that still lasts was never pending if librdkafka had nothing else to send. It is thrown
        away, so that it is not written after the request was told that Kafka cannot be reached. Anything else stays: a broker
        may have it, and what an idempotent producer sends after a gap is not taken.
        """
        lasting = self._brokers.outage
        for pending in due:
            unsent = lasting is not None and lasting.is_clean and pending.outage is lasting
            if lasting is not None and unsent:
                outcome = ProduceError(lasting.reason, "No broker answered in time.")
            else:
                outcome = ProduceError(ProduceFailure.TIMED_OUT, "Not acknowledged in time.", pending)
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
        """Return the failure of a record that was handed over in ``outage``.

        One that was given up in it went nowhere. Any other may have been pending, and only its acknowledgement be missing.
        """
        reason = _FAILURES.get(error.code(), ProduceFailure.UNREACHABLE)
        if error.code() in _UNCERTAIN:
            if outage is not None and outage is self._brokers.outage:
                reason = outage.reason
            self._brokers.check_brokers()
        return ProduceError(reason, f"{error.name()}: {error.str()}")

    def _on_error(self, generation: int, error: KafkaError) -> None:
        """Note a state that no single record tells; librdkafka goes on trying by itself."""
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):  # noqa: SLF001
            self._brokers.check_brokers(_FAILURES[error.code()])
        if error.fatal() and self._replace(generation):
            log.error("producer_recreated producer=%s error=%s", self._name, error.name())
        librdkafka_log.warning("producer_error producer=%s error=%s", self._name, error.name())

    def _replace(self, generation: int) -> bool:
        """Begin with a new producer and give up what the one of this generation has; return whether there was such a one.

        An idempotent producer that cannot keep its promise fails for good, and one that has lost a record leaves a gap.
        """
        with self._lock:
            if self._closed.is_set() or generation != self._generation:
                return False
            self._generation += 1
            old, self._producer = self._producer, self._new_producer()
        threading.Thread(target=_purge, args=(old,), name=f"kafkaproxy-purge-{self._name}", daemon=True).start()
        return True

    def _purge_rest(self) -> None:
        """Give up what is left at the end, and say in the log how much was not delivered since the stop began."""
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
    """Report every record that a producer still has as failed."""
    until = time.monotonic() + seconds
    while len(producer) and time.monotonic() < until:
        producer.purge()
        with contextlib.suppress(KafkaException):  # it says again that it failed for good
            producer.flush(0.1)
