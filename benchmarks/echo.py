"""The two ends of a bare echo over Kafka: the service that answers, and a client that is nothing but librdkafka.

``python -m benchmarks.echo BOOTSTRAP TOPIC...`` runs the service. It answers both the proxy and the bare client.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, Message, Producer, TopicPartition

__all__ = ["BareClient"]

_BATCH = 500
_PATIENCE = 30.0


class BareClient:
    """What a program would do that calls the service over Kafka itself: one producer, one consumer, one thread."""

    def __init__(self, bootstrap: str, requests: str, replies: str, *, acks: str = "all") -> None:
        options = {"bootstrap.servers": bootstrap, "linger.ms": 0, "acks": acks, "enable.idempotence": acks == "all"}
        self._producer = Producer(options)
        self._consumer = _consumer(bootstrap, [replies])
        self._requests = requests
        self._replies = replies

    def ask(self, body: bytes) -> float:
        """Ask once and return the seconds until the answer was there."""
        asked = time.perf_counter()
        wanted = self._produce(body)
        while True:
            message = self._consumer.poll(5)
            if message is None:
                raise TimeoutError("the service does not answer: is it running?")
            if message.error() is None and _header(message, "zilla:correlation-id") == wanted:
                self._producer.poll(0)
                return time.perf_counter() - asked

    def load(self, body: bytes, concurrent: int, seconds: float) -> dict[str, float]:
        """Keep ``concurrent`` questions open; return answers per second and percentiles in milliseconds."""
        asked = {self._produce(body): time.perf_counter() for _ in range(concurrent)}
        took: list[float] = []
        begin = time.perf_counter()
        while (now := time.perf_counter()) < begin + seconds:
            for message in _batch(self._consumer, 0.1):
                if (start := asked.pop(_header(message, "zilla:correlation-id"), None)) is not None:
                    took.append(now - start)
                    asked[self._produce(body)] = time.perf_counter()
            self._producer.poll(0)
        elapsed = now - begin
        self._drain(asked)
        took.sort()
        return {
            "per_second": len(took) / elapsed,
            "p50_ms": took[len(took) // 2] * 1e3,
            "p99_ms": took[len(took) * 99 // 100] * 1e3,
            "errors": 0,
        }

    def close(self) -> None:
        """Close the clients."""
        self._producer.flush(5)
        self._consumer.close()

    def _drain(self, asked: dict[bytes, float]) -> None:
        deadline = time.perf_counter() + _PATIENCE
        while asked:
            for message in _batch(self._consumer, 0.1):
                asked.pop(_header(message, "zilla:correlation-id"), None)
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{len(asked)} questions were never answered")

    def _produce(self, body: bytes) -> bytes:
        wanted = str(uuid.uuid4()).encode()
        headers = [("zilla:reply-to", self._replies.encode()), ("zilla:correlation-id", wanted)]
        self._producer.produce(self._requests, body, b"1", headers=headers)
        return wanted


def _consumer(bootstrap: str, topics: Sequence[str]) -> Consumer:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    parts = [
        TopicPartition(topic, partition, OFFSET_END)
        for topic in topics
        for partition in consumer.list_topics(topic, 10).topics[topic].partitions
    ]
    consumer.assign(parts)
    consumer.poll(1)  # the positions are fixed before the first request
    return consumer


def _batch(consumer: Consumer, timeout: float) -> list[Message]:
    """Return what is there as soon as something is: ``consume`` alone would wait for a full batch."""
    first = consumer.poll(timeout)
    return [] if first is None else [first, *consumer.consume(_BATCH, 0)]


def _header(message: Message, name: str) -> bytes:
    headers: Any = message.headers() or []
    return next((value for each, value in headers if each == name and isinstance(value, bytes)), b"")


def _serve(bootstrap: str, topics: Sequence[str]) -> None:
    consumer = _consumer(bootstrap, topics)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    print("ready", flush=True)
    while True:
        for message in _batch(consumer, 1):
            if message.error() is None:
                _answer(producer, message)
        producer.poll(0)


def _answer(producer: Producer, message: Message) -> None:
    reply_to = _header(message, "zilla:reply-to").decode()
    headers = [(":status", b"200"), ("zilla:correlation-id", _header(message, "zilla:correlation-id"))]
    producer.produce(reply_to, message.value(), message.key(), headers=headers)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
