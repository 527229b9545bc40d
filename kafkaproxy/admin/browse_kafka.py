"""The last records of a topic that the store does not hold, read from Kafka itself: a route may only write to it."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kafkaproxy.worker.kafka.messages import to_record
from kafkaproxy.worker.types import Record

__all__ = ["Tail", "read_tail"]

_PATIENCE: Final = 5.0
_MOST_BYTES: Final = 8 << 20
_MOST_PARTITIONS: Final = 64
_LITTLE: Final[dict[str, Any]] = {"queued.max.messages.kbytes": 4096}


@dataclass(slots=True)
class Tail:
    """The newest records, newest first. ``complete``: there are no older ones. ``error``: why there may be more."""

    records: list[Record] = field(default_factory=list)
    complete: bool = True
    error: str = ""


def read_tail(config: dict[str, Any], topic: str, count: int) -> Tail:
    """Read the last ``count`` records. Blocks for a few times five seconds where Kafka does not answer; never raises for it."""
    tail = Tail()
    try:
        reader = Consumer({**config, **_LITTLE})
    except (KafkaException, ValueError) as error:
        return Tail(complete=False, error=str(error))
    try:
        _fill(tail, reader, topic, count)
    except KafkaException as error:
        tail.error = str(error.args[0].name())
    finally:
        reader.close()
    tail.complete &= not tail.error
    tail.records.sort(key=lambda record: (record.timestamp, record.offset), reverse=True)
    tail.complete &= len(tail.records) <= count
    del tail.records[count:]
    return tail


def _fill(tail: Tail, reader: Consumer, topic: str, count: int) -> None:
    found = reader.list_topics(topic, timeout=_PATIENCE).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    starts = []
    for partition in sorted(found.partitions)[:_MOST_PARTITIONS]:
        low, high = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=_PATIENCE)
        if low < high:
            starts.append(TopicPartition(topic, partition, max(low, high - count)))
            tail.complete &= high - count <= low
    tail.complete &= len(found.partitions) <= _MOST_PARTITIONS
    reader.assign(starts)
    _take(tail, reader, {each.partition for each in starts}, count)


def _take(tail: Tail, reader: Consumer, reading: set[int], count: int) -> None:
    """Read each partition to its end, and keep the newest records of each, as far as there is room."""
    kept: defaultdict[int, deque[Record]] = defaultdict(lambda: deque(maxlen=count))
    room = _MOST_BYTES // max(len(reading), 1)
    for message in _messages(reader, reading, tail):
        records = kept[message.partition() or 0]
        records.append(to_record(message))
        while len(records) > 1 and sum(map(_size, records)) > room:
            records.popleft()
            tail.complete = False
    tail.records = [record for records in kept.values() for record in records]


def _messages(reader: Consumer, reading: set[int], tail: Tail) -> Iterator[Message]:
    deadline = time.monotonic() + _PATIENCE
    while reading:
        message = reader.poll(max(deadline - time.monotonic(), 0))
        if message is None:
            tail.error = "timeout"
            return
        if (error := message.error()) is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's own name
            reading.discard(message.partition() or 0)
        else:
            raise KafkaException(error)


def _size(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"")
