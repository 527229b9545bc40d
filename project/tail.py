"""Follows the demo's topics with a plain consumer, so that the page shows what is in Kafka, not what the proxy says."""

from __future__ import annotations

import atexit
import itertools
import logging
import threading
import time
from collections import deque
from functools import cache
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from project.kafka import FETCH_WAIT_MS, headers_of, partitions_of, text
from project.topics import TOPICS, bootstrap_servers

__all__ = ["Tail", "tail"]

log = logging.getLogger("project.tail")

_KEPT: Final = 100
_PAST: Final = 10
"""How many records of each partition that were there before are shown."""
_SHOWN: Final = 2000
_LOOK_SECONDS: Final = 2.0


class Tail:
    """The newest records of the demo's topics, numbered in the order in which this process saw them."""

    def __init__(self, bootstrap: str) -> None:
        self._records: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._numbers = itertools.count(1)
        self._followed: dict[str, list[int]] = {}
        self._ends: dict[tuple[str, int], int] = {}
        """Where the partitions ended when they were first looked at."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "unused",
                "enable.auto.commit": False,
                "allow.auto.create.topics": True,
                "fetch.wait.max.ms": FETCH_WAIT_MS,
            }
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-tail", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def after(self, number: int) -> list[dict[str, Any]]:
        """Return the records that came after that one, oldest first."""
        return [record for record in list(self._records) if record["number"] > number]

    def close(self) -> None:
        """Leave the broker before it leaves us, which librdkafka would report at length."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        look = 0.0
        while not self._stop.is_set():
            if len(self._followed) < len(TOPICS) and time.monotonic() >= look:
                self._look()
                look = time.monotonic() + _LOOK_SECONDS
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                self._add(message)
        self._consumer.close()

    def _add(self, message: Message) -> None:
        record = _shown(message)
        past = record["offset"] < self._ends[record["topic"], record["partition"]]
        self._records.append({"number": next(self._numbers), "past": past, **record})

    def _look(self) -> None:
        """Follow the topics that exist by now."""
        try:
            missing = [topic for topic in TOPICS if topic not in self._followed]
            found = partitions_of(self._consumer, missing)
            starts = [self._start(topic, partition) for topic, each in found.items() for partition in each]
        except KafkaException as error:
            log.warning("the broker does not answer reason=%s", error)
            return
        if starts:
            self._consumer.incremental_assign(starts)
        self._followed |= found

    def _start(self, topic: str, partition: int) -> TopicPartition:
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)
        self._ends[topic, partition] = high
        return TopicPartition(topic, partition, max(low, high - _PAST))


@cache
def tail() -> Tail:
    """Return this process's tail; the first call starts it, and asks the database where the broker is."""
    return Tail(bootstrap_servers())


def _shown(message: Message) -> dict[str, Any]:
    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": message.timestamp()[1],
        "key": _short(message.key()),
        "headers": [[name, _short(value)] for name, value in headers_of(message)],
        "value": _short(message.value()),
    }


def _short(value: str | bytes | None) -> str | None:
    shown = text(value)
    return f"{shown[:_SHOWN]}…" if shown is not None and len(shown) > _SHOWN else shown
