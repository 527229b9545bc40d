"""A service that answers requests from Kafka: what sits behind a route with a reply-to topic.

It knows nothing of kafkaproxy. A request is a record whose headers say what was asked (``:method``, ``:path``) and where
the answer goes (``zilla:reply-to``); the answer is a record with the same ``zilla:correlation-id`` and a ``:status``.

A request is done when its answer is in Kafka, not when it was read: a request whose process ends before is read again.
"""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition

from project.kafka import FETCH_WAIT_MS, headers_of, partitions_of, text

__all__ = ["Call", "Responder"]

log = logging.getLogger("project.responder")

DELAYS: Final = {"sync-requests": 0.0, "async-requests": 3.0}
"""The request topics, and how many seconds the service takes to answer each."""
_REMEMBERED: Final = 1000
"""How many answers the service keeps, in case a request comes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as it stands in a record."""

    method: str
    key: str
    body: bytes
    reply_to: str
    correlation_id: bytes

    @classmethod
    def read(cls, message: Message) -> Call | None:
        """Return the request in a record; None for a record that is none."""
        headers = dict(headers_of(message))
        reply_to, correlation_id = headers.get("zilla:reply-to"), headers.get("zilla:correlation-id")
        if not reply_to or not correlation_id:
            return None
        return cls(
            method=text(headers.get(":method")) or "",
            key=text(message.key()) or "",
            body=_bytes(message.value()),
            reply_to=text(reply_to) or "",
            correlation_id=_bytes(correlation_id),
        )


class Items:
    """The service itself: it keeps what it is given, and does nothing twice."""

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}
        self._answers: dict[bytes, tuple[HTTPStatus, Any]] = {}
        """What was answered, by correlation id. A service that keeps its data on a disk keeps these beside it."""

    def answer(self, call: Call) -> tuple[HTTPStatus, Any]:
        """Return status and body; the body None is an empty one."""
        if call.correlation_id not in self._answers:
            self._answers[call.correlation_id] = self._do(call)
        if len(self._answers) > _REMEMBERED:
            del self._answers[next(iter(self._answers))]
        return self._answers[call.correlation_id]

    def _do(self, call: Call) -> tuple[HTTPStatus, Any]:
        if call.method == "GET":
            return self._get(call.key)
        if call.method == "DELETE":
            self._items.pop(call.key, None)
            return HTTPStatus.NO_CONTENT, None
        return self._put(call.key, call.body)

    def _get(self, key: str) -> tuple[HTTPStatus, Any]:
        if key not in self._items:
            return HTTPStatus.NOT_FOUND, {"error": f"There is no item {key}."}
        return HTTPStatus.OK, {"id": key, "item": self._items[key]}

    def _put(self, key: str, body: bytes) -> tuple[HTTPStatus, Any]:
        try:
            item = json.loads(body)
        except ValueError:
            return HTTPStatus.BAD_REQUEST, {"error": "The body is not JSON."}
        status = HTTPStatus.OK if key in self._items else HTTPStatus.CREATED
        self._items[key] = item
        return status, {"id": key, "item": item}


class Responder:
    """Reads the request topics and produces the answers, until it is told to stop."""

    def __init__(self, bootstrap: str, *, group: str | None) -> None:
        """Share the work with the members of ``group``; None reads every partition from its start, in no group."""
        self._group = group
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group or "unused",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "allow.auto.create.topics": True,
                "fetch.wait.max.ms": FETCH_WAIT_MS,
            }
        )
        # Without a time limit: an answer is tried until Kafka has it.
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0, "delivery.timeout.ms": 0}
        )
        self._services = {topic: Items() for topic in DELAYS}
        self._pending: list[tuple[float, int, Message]] = []
        """What was read and is not done: when it is due, the order of reading, the record."""
        self._count = itertools.count()

    def run(self, stop: threading.Event) -> None:
        """Answer until ``stop`` is set. What is pending then is left to the next member of the group."""
        try:
            self._follow(stop)
            while not stop.is_set():
                self._read()
                while self._pending and self._pending[0][0] <= time.monotonic() and not stop.is_set():
                    self._finish(heapq.heappop(self._pending)[2], stop)
        finally:
            self._consumer.close()

    def _follow(self, stop: threading.Event) -> None:
        if self._group is not None:
            self._consumer.subscribe(list(DELAYS))
            return
        found: dict[str, list[int]] = {}
        while len(found) < len(DELAYS) and not stop.wait(0 if not found else 0.5):
            found = partitions_of(self._consumer, DELAYS)
        parts = [(topic, partition) for topic, each in found.items() for partition in each]
        self._consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in parts])

    def _read(self) -> None:
        message = self._consumer.poll(0.05)
        if message is None:
            return
        if message.error() is not None:
            log.warning("read failed reason=%s", message.error())
            return
        due = time.monotonic() + DELAYS[str(message.topic())]
        heapq.heappush(self._pending, (due, next(self._count), message))

    def _finish(self, message: Message, stop: threading.Event) -> None:
        """Answer, then commit. A topic has one delay, so the records of a partition come here in their order."""
        call = Call.read(message)
        if call is not None:
            self._answer(call, self._services[str(message.topic())])
            while self._producer.flush(0.5):
                if stop.is_set():
                    return
        if self._group is not None:
            self._consumer.commit(message=message)

    def _answer(self, call: Call, service: Items) -> None:
        status, body = service.answer(call)
        headers: list[tuple[str, str | bytes | None]] = [
            ("zilla:correlation-id", call.correlation_id),
            (":status", str(status.value)),
        ]
        if body is not None:
            headers.append(("content-type", "application/json"))
        value = b"" if body is None else json.dumps(body).encode()
        self._producer.produce(call.reply_to, value, key=call.key, headers=headers, on_delivery=_delivered)
        log.info("answered method=%s status=%d", call.method, status)


def _delivered(error: KafkaError | None, _message: Message) -> None:
    """Say what Kafka will never take, such as a reply to a topic that is gone; trying again would not help."""
    if error is not None:
        log.error("answer refused reason=%s", error)


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
