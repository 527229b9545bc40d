"""Producing: one librdkafka producer per kind of acknowledgement, delivery reports handed to event loops in batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from kafkaproxy.metrics import RECORDS
from kafkaproxy.worker.client import Limits, producer_config
from kafkaproxy.worker.errors import ProduceError, ProduceFailure
from kafkaproxy.worker.outage import Outage, Reachability
from kafkaproxy.worker.repeats import librdkafka_log
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
    KafkaError._PURGE_QUEUE: ProduceFailure.UNREACHABLE,  # noqa: SLF001
    KafkaError._PURGE_INFLIGHT: ProduceFailure.UNREACHABLE,  # noqa: SLF001
    KafkaError._QUEUE_FULL: ProduceFailure.QUEUE_FULL,  # noqa: SLF001
    KafkaError.NOT_ENOUGH_REPLICAS: ProduceFailure.UNREACHABLE,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ProduceFailure.TIMED_OUT,
    KafkaError._MSG_TIMED_OUT: ProduceFailure.TIMED_OUT,  # noqa: SLF001
    KafkaError._TIMED_OUT: ProduceFailure.TIMED_OUT,  # noqa: SLF001
    KafkaError.REQUEST_TIMED_OUT: ProduceFailure.TIMED_OUT,
}
_Report = tuple[asyncio.Future[Delivery], ProduceError | Delivery]
_TIMED_OUT: Final = (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT)  # noqa: SLF001


class AckedProducer:
    """A producer whose records are futures. Thread-safe; futures belong to the loop that called."""

    def __init__(self, cluster: ClusterConfig, servers: str, acks: Acks, limits: Limits) -> None:
        self._config = producer_config(cluster, servers, acks, limits)
        self._name = f"{cluster.name}/{acks}"
        self._cluster = cluster.name
        self._acknowledged = RECORDS.cell(cluster.name, "acknowledged")
        self._reports: dict[asyncio.AbstractEventLoop, deque[_Report]] = {}
        self._woken: set[asyncio.AbstractEventLoop] = set()
        """The loops that are about to take their reports."""
        self._patient: set[asyncio.Future[Delivery]] = set()
        self._lock = threading.Lock()
        self._brokers = Reachability(cluster.name, self._name, lambda seconds: self._producer.list_topics(timeout=seconds))
        self._closed = threading.Event()
        self._generation = 0
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._poll, name=f"kafkaproxy-produce-{self._name}", daemon=True)
        self._thread.start()
        self._brokers.doubt()

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, patient: bool = False
    ) -> asyncio.Future[Delivery]:
        """Hand a record over; the future is done when it is acknowledged, or failed with :class:`ProduceError`.

        ``patient``: who waits for something else first need not be woken for an acknowledgement. It is done when
        :meth:`settle` is called, which has to be; a failure is told at once.
        """
        brokers = self._brokers
        if brokers.refusal is not None:
            raise self._refused(brokers.refusal)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Delivery] = loop.create_future()
        outage = brokers.outage

        def report(error: KafkaError | None, message: Message) -> None:
            # Not the message itself: it holds the value, and a report may have to wait.
            self._report(loop, future, _delivery(message) if error is None else self._error(error, outage))

        try:
            self._producer.produce(topic, value, key, headers=list(headers), on_delivery=report)
        except BufferError as error:
            raise ProduceError(ProduceFailure.QUEUE_FULL, str(error)) from error
        except KafkaException as error:
            raise self._error(error.args[0]) from error
        if patient:
            with self._lock:
                self._patient.add(future)
        return future

    def settle(self, future: asyncio.Future[Delivery]) -> None:
        """Say whether a patient future's record is acknowledged; from here on it is done at once."""
        with self._lock:
            self._patient.discard(future)
        self._hand_over(future.get_loop())

    def queued(self) -> int:
        """Return how many records are not acknowledged yet."""
        return len(self._producer)

    def close(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for what was handed over, then stop."""
        self._producer.flush(timeout)
        self._brokers.close()
        self._closed.set()
        self._thread.join(timeout=2)

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

    def _report(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Delivery], outcome: ProduceError | Delivery
    ) -> None:
        """Queue a report for its loop; only the first of a batch that somebody waits for wakes the loop."""
        with self._lock:
            self._reports.setdefault(loop, deque()).append((future, outcome))
            patient = future in self._patient and isinstance(outcome, Delivery)
            if patient or loop in self._woken:
                return
            self._woken.add(loop)
        try:
            loop.call_soon_threadsafe(self._hand_over, loop)
        except RuntimeError:  # the loop is closed, and whoever waited is gone with it
            with self._lock:
                self._reports.pop(loop, None)
                self._woken.discard(loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            reports = self._reports.pop(loop, None) or ()
            self._woken.discard(loop)
            self._patient.difference_update(future for future, _ in reports)
        for future, outcome in reports:
            if future.done():  # the request was cancelled meanwhile
                continue
            if isinstance(outcome, Delivery):
                self._acknowledged.value += 1
                if self._brokers.outage is not None:
                    self._brokers.note_answer()
                future.set_result(outcome)
            else:
                RECORDS.cell(self._cluster, outcome.reason).value += 1
                future.set_exception(outcome)

    def _refused(self, reason: ProduceFailure) -> ProduceError:
        RECORDS.cell(self._cluster, reason).value += 1
        return ProduceError(reason, "No broker answers: nothing is sent until one does.")

    def _error(self, error: KafkaError, outage: Outage | None = None) -> ProduceError:
        """Return the failure of a record that was handed over in ``outage``.

        One that timed out in it went nowhere. Any other may have been sent, and only its acknowledgement be missing.
        """
        reason = _FAILURES.get(error.code(), ProduceFailure.UNREACHABLE)
        if error.code() in _TIMED_OUT:
            if outage is not None and outage is self._brokers.outage:
                reason = outage.reason
            self._brokers.doubt()
        return ProduceError(reason, f"{error.name()}: {error.str()}")

    def _on_error(self, generation: int, error: KafkaError) -> None:
        """Note a state that no single record tells; librdkafka goes on trying by itself."""
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):  # noqa: SLF001
            self._brokers.doubt(_FAILURES[error.code()])
        if error.fatal():
            self._recreate(generation, error)
        librdkafka_log.warning("producer_error producer=%s error=%s", self._name, error.name())

    def _recreate(self, generation: int, error: KafkaError) -> None:
        """An idempotent producer that cannot keep its promise fails for good: begin with a new one."""
        with self._lock:
            if self._closed.is_set() or generation != self._generation:
                return
            self._generation += 1
            log.error("producer_recreated producer=%s error=%s", self._name, error.name())
            old, self._producer = self._producer, self._new_producer()
        threading.Thread(target=_give_up, args=(old,), name=f"kafkaproxy-give-up-{self._name}", daemon=True).start()


def _delivery(message: Message) -> Delivery:
    offset = message.offset()
    return Delivery(message.topic() or "", message.partition() or 0, -1 if offset is None else offset)


def _give_up(producer: Producer) -> None:
    """Report every record that a producer still has as failed."""
    producer.purge()
    while len(producer):
        with contextlib.suppress(KafkaException):  # it says again that it failed for good
            producer.flush(1)
