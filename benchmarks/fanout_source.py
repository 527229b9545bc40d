"""The source of the fan-out benchmark: produces to Kafka at a rate and notes when each record was acknowledged.

``python -m benchmarks.fanout_source BOOTSTRAP TOPIC ACKS FIRST COUNT RATE``.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

__all__ = ["Acks", "value_of"]

_CAPACITY = 1_000_000
_TIME = struct.Struct("d")
_PADDING = b"x" * 80


def value_of(number: int) -> bytes:
    """Return a record's value, about a hundred bytes."""
    return b'{"n":%d,"pad":"%b"}' % (number, _PADDING)


class Acks:
    """When each record was acknowledged, on the clock that all processes share; in a file that all map."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_CAPACITY * _TIME.size))
        with path.open("r+b") as file:
            self._times = mmap.mmap(file.fileno(), 0)

    def note(self, number: int) -> None:
        """Note that a record is acknowledged now."""
        _TIME.pack_into(self._times, number * _TIME.size, time.monotonic())

    def time_of(self, number: int) -> float:
        """Return when; 0 where it is not acknowledged yet."""
        return float(_TIME.unpack_from(self._times, number * _TIME.size)[0])


def _main(bootstrap: str, topic: str, path: str, first: int, count: int, rate: float) -> None:
    acks = Acks(Path(path))
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "acks": "all"})
    producer.list_topics(topic, 10)

    def report(number: int, error: KafkaError | None) -> None:
        if error is not None:
            raise KafkaException(error)
        acks.note(number)

    def reporter(number: int) -> Callable[[KafkaError | None, Any], None]:
        return lambda error, _message: report(number, error)

    begin = time.monotonic()
    for number in range(first, first + count):
        while (left := begin + (number - first) / rate - time.monotonic()) > 0:
            producer.poll(min(left, 0.01))
        producer.produce(topic, value_of(number), partition=0, on_delivery=reporter(number))
        producer.poll(0)
    producer.flush(30)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
