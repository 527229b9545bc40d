"""Outages: times in which no broker answers a producer.

librdkafka keeps a record until its time-out, even if no broker can be reached; a request would wait that long for an error that
is known already. So a thread checks the brokers whenever they may be unreachable: at the start, after a record without an
acknowledgement, and when librdkafka reports that all brokers are down.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException

from kafkaproxy.metrics import BROKER_UP
from kafkaproxy.worker.errors import ProduceFailure

__all__ = ["REFUSE_AFTER_SECONDS", "Outage", "Reachability"]

log = logging.getLogger("kafkaproxy.producer")

REFUSE_AFTER_SECONDS: Final = 3.0
"""After how many seconds without an answer of any broker records are refused."""
_RETRY_SECONDS: Final = 0.2


@dataclass(slots=True, eq=False)
class Outage:
    """A time in which no broker answers. Outages are compared by identity, so that two of them are never equal."""

    reason: ProduceFailure = ProduceFailure.UNREACHABLE
    is_clean: bool = True
    """True if the producer had no record when it began: then none that it has since was ever sent."""


class Reachability:
    """The state of the connection to the brokers.

    ``ask(seconds)`` sends them any request and raises ``KafkaException`` if none answers in that time. ``queued`` returns how
    many records the producer has.
    """

    def __init__(self, cluster: str, name: str, ask: Callable[[float], object], queued: Callable[[], int]) -> None:
        self.outage: Outage | None = Outage()
        """The present outage; until a broker has answered for the first time, there is one."""
        self.refusal: ProduceFailure | None = None
        """Why records are refused at present; None if they are accepted."""
        self._up = BROKER_UP.cell(cluster)
        self._name = name
        self._ask = ask
        self._queued = queued
        self._lock = threading.Lock()
        self._is_checking = False
        self._closed = threading.Event()

    def mark_reachable(self) -> None:
        """Take note that a broker answered: the outage is over."""
        with self._lock:
            self.outage = self.refusal = None
            self._up.value = 1

    def check_brokers(self, reason: ProduceFailure | None = None) -> None:
        """Check in a thread if a broker answers, until one does; from any thread.

        ``reason``: given if librdkafka reports that none does, and says why.
        """
        with self._lock:
            if reason is not None:
                self._begin_outage(reason)
            if self._is_checking or self._closed.is_set():
                return
            self._is_checking = True
        threading.Thread(target=self._check, name=f"kafkaproxy-check-{self._name}", daemon=True).start()

    def close(self) -> None:
        """Stop checking."""
        self._closed.set()

    def _begin_outage(self, reason: ProduceFailure) -> None:
        self._up.value = 0
        if self.outage is None:
            # A record that was queued before the outage may have been sent, and its acknowledgement lost with the connection.
            self.outage = Outage(reason, is_clean=not self._queued())
        elif reason is ProduceFailure.NOT_AUTHORIZED:  # says more than that no broker can be reached
            self.outage.reason = reason

    def _check(self) -> None:
        while not self._closed.is_set():
            try:
                self._ask(REFUSE_AFTER_SECONDS)
            except KafkaException:
                self._refuse()
                self._closed.wait(_RETRY_SECONDS)
            else:
                break
        with self._lock:
            self._is_checking = False
        if self.refusal is not None:
            log.info("producer_resumes producer=%s", self._name)
        self.mark_reachable()

    def _refuse(self) -> None:
        with self._lock:
            self._begin_outage(ProduceFailure.UNREACHABLE)
            if self.refusal is None:
                log.warning("producer_refuses producer=%s: no broker answered for %s s", self._name, REFUSE_AFTER_SECONDS)
            self.refusal = self.outage.reason if self.outage is not None else None
