"""The history reader: reads from Kafka what the store no longer holds, for streams with older cursors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.kafka.messages import to_record
from kafkaproxy.worker.types import Record

__all__ = ["HistoryReader"]

_READERS: Final = 4
_BATCH: Final = 2000
_BATCH_BYTES: Final = 1 << 20
_PATIENCE: Final = 10.0
_POLL_SECONDS: Final = 0.2
# A consumer reads one batch and is then assigned to another partition, so what it prefetches is thrown away. The default
# back-off would delay the first fetch after each assignment by a second.
_LITTLE_PREFETCH: Final[Mapping[str, Any]] = {
    "queued.min.messages": _BATCH,
    "queued.max.messages.kbytes": 2 * _BATCH_BYTES >> 10,
    "fetch.message.max.bytes": _BATCH_BYTES,
    "fetch.queue.backoff.ms": 10,
}


class HistoryReader:
    """Reads batches of partitions. Four consumers of a process take turns, so that one stream does not delay the others."""

    def __init__(self, consumer_config: Mapping[str, Any]) -> None:
        self._config = {**consumer_config, **_LITTLE_PREFETCH}
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="kafkaproxy-history")
        self._readers: list[Consumer] = []
        self._own = threading.local()
        self._closed = threading.Event()

    async def read(self, topic: str, partition: int, start: int, end: int) -> tuple[list[Record], int] | None:
        """Return the records from ``start`` to before ``end``, and the offset up to which they are complete.

        Return None if the log no longer holds ``start``. Raise :class:`TopicUnavailable` if Kafka does not answer within 10
        seconds.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._read, topic, partition, start, end)

    def close(self) -> None:
        """Stop. Reads in progress fail with :class:`TopicUnavailable`."""
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for reader in self._readers:
            reader.close()

    def _reader(self) -> Consumer:
        reader: Consumer | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = Consumer(self._config)
            self._readers.append(reader)
        return reader

    def _read(self, topic: str, partition: int, start: int, end: int) -> tuple[list[Record], int] | None:
        reader = self._reader()
        reader.assign([TopicPartition(topic, partition, start)])
        try:
            return self._collect(reader, topic, partition, start, end)
        finally:
            reader.unassign()

    def _collect(self, reader: Consumer, topic: str, partition: int, start: int, end: int) -> tuple[list[Record], int] | None:
        deadline = time.monotonic() + _PATIENCE
        while (left := deadline - time.monotonic()) > 0 and not self._closed.is_set():
            first = reader.poll(min(left, _POLL_SECONDS))
            if first is None:
                continue
            messages = [each for each in (first, *reader.consume(_BATCH, 0)) if _is_from(each, topic, partition, start)]
            if messages:
                return _records_of(messages, end)
        raise TopicUnavailable(Unavailable.UNREACHABLE)


def _is_from(message: Message, topic: str, partition: int, start: int) -> bool:
    """Return True if a message belongs to the present assignment, not to an earlier one."""
    if (message.topic(), message.partition()) != (topic, partition):
        return False
    return message.error() is not None or (message.offset() or 0) >= start


def _records_of(messages: list[Message], end: int) -> tuple[list[Record], int] | None:
    records: list[Record] = []
    for message in messages:
        error = message.error()
        if error is not None:
            if records:  # return the records before it; the error will come again
                break
            return _outcome_of(error, end)
        record = to_record(message)
        if record.offset >= end:
            return records, end
        records.append(record)
    return records, records[-1].offset + 1


def _outcome_of(error: KafkaError, end: int) -> tuple[list[Record], int] | None:
    match error.code():
        case KafkaError._PARTITION_EOF:  # noqa: SLF001 - nothing is left that a reader of committed records sees
            return [], end
        case KafkaError._AUTO_OFFSET_RESET | KafkaError.OFFSET_OUT_OF_RANGE:  # noqa: SLF001
            return None
        case _:
            raise TopicUnavailable(Unavailable.UNREACHABLE, error.name())
