"""The records of a topic as the page shows them, from the store or, where a route only writes to the topic, from Kafka."""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kafkaproxy.worker.kafka.messages import to_record
from kafkaproxy.worker.types import Record

__all__ = ["Content", "ShownRecord", "Tail", "read_tail", "show", "show_record"]

_MOST: Final = 1 << 16
_MOST_HEX: Final = 1 << 11
_WHITE: Final = frozenset("\n\r\t")


@dataclass(slots=True)
class Content:
    """A key, a header or a value: ``kind`` is null, empty, json, text or hex; ``left_out`` counts bytes that are not shown."""

    kind: str
    text: str = ""
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class ShownRecord:
    """A record with its place, ready for a page."""

    topic: str
    partition: int
    offset: int
    at: datetime | None
    key: Content
    headers: list[tuple[str, Content]]
    value: Content


def show(data: bytes | None, *, pretty: bool = False) -> Content:
    """Return bytes as text. ``pretty``: indent JSON."""
    if data is None:
        return Content("null")
    if not data:
        return Content("empty")
    if (text := _readable(data)) is None:
        return Content("hex", data[:_MOST_HEX].hex(" "), max(len(data) - _MOST_HEX, 0))
    if len(data) > _MOST:
        shown = data[:_MOST].decode(errors="ignore")
        return Content("text", shown, len(data) - len(shown.encode()))
    indented = _indented(text) if pretty else None
    return Content("text", text) if indented is None else Content("json", indented)


def show_record(topic: str, record: Record) -> ShownRecord:
    """Return a record with its parts as text."""
    return ShownRecord(
        topic,
        record.partition,
        record.offset,
        _time(record.timestamp),
        show(record.key),
        [(name, show(value)) for name, value in record.headers],
        show(record.value, pretty=True),
    )


def _time(milliseconds: int) -> datetime | None:
    try:
        return None if milliseconds < 0 else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError):
        return None


def _readable(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if all(each in _WHITE or each >= " " for each in text) else None


def _indented(text: str) -> str | None:
    """Return JSON with indentation; None if it is not JSON, or if parsing would change its values."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text, object_pairs_hook=_exact_object, parse_float=_exact_float)
        indented = json.dumps(value, indent=2, ensure_ascii=False)
        indented.encode()
    except (ValueError, RecursionError):
        return None
    return indented


def _exact_object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("A name stands there twice.")
    return members


def _exact_float(text: str) -> float:
    value = float(text)
    if repr(value) != text:
        raise ValueError("It would be written differently.")
    return value


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
    """Read the last ``count`` records. Blocks for a few times five seconds if Kafka does not answer; does not raise then."""
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
