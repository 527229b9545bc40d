"""Reading what the store no longer holds from Kafka itself: for cursors that are older than the store, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.messages import to_record
from kafkaproxy.worker.types import Record

__all__ = ["History"]

_READERS: Final = 4
_BATCH: Final = 500
_PATIENCE: Final = 10.0


class History:
    """Reads ranges of partitions. At most four are read at once by a process; others wait for their turn."""

    def __init__(self, consumer_config: Mapping[str, Any]) -> None:
        self._config = dict(consumer_config)
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="kafkaproxy-history")
        self._turns: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[tuple[list[Record], int]]:
        """Yield records from ``start`` to before ``end``, with the offset up to which they are all.

        Raise :class:`TopicUnavailable` where Kafka does not answer, or no longer has the range.
        """
        loop = asyncio.get_running_loop()
        turn = self._turns.setdefault(loop, asyncio.Semaphore(_READERS))
        async with turn:
            consumer = await loop.run_in_executor(self._pool, self._open, topic, partition, start)
            try:
                while start < end:
                    records, start = await loop.run_in_executor(self._pool, _read, consumer, start, end)
                    yield records, start
            finally:
                with contextlib.suppress(RuntimeError):  # the pool is closed with the process
                    self._pool.submit(consumer.close)

    def close(self) -> None:
        """Stop."""
        self._pool.shutdown(wait=True)

    def _open(self, topic: str, partition: int, offset: int) -> Consumer:
        consumer = Consumer(self._config)
        consumer.assign([TopicPartition(topic, partition, offset)])
        return consumer


def _read(consumer: Consumer, start: int, end: int) -> tuple[list[Record], int]:
    first = consumer.poll(_PATIENCE)
    if first is None:
        raise TopicUnavailable(Unavailable.UNREACHABLE)
    records: list[Record] = []
    for message in (first, *consumer.consume(_BATCH, 0)):
        error = message.error()
        if error is None:
            record = to_record(message)
            if record.offset >= end:
                return records, end
            records.append(record)
            start = record.offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            return records, end
        else:
            raise TopicUnavailable(Unavailable.UNREACHABLE, error.name())
    return records, start
