"""A reader: one consumer of the writer, and the thread that polls it.

The writer has up to three readers, so that reading a big topic does not delay live topics: librdkafka puts the records of all
partitions of a consumer into one queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, Message, TopicPartition

from kafkaproxy.worker.ingest.positions import ReadPositions

__all__ = ["Reader"]

_BATCH: Final = 200
"""The most messages of one step: a few milliseconds of work, for which the other readers have to wait."""
_IDLE_SECONDS: Final = 0.05
_STATISTICS_MS: Final = 300


class Reader:
    """Polls the partitions that are assigned to it and passes on the messages, a step at a time.

    ``handle`` is called from the reader's thread with the messages of every step, and with none if there were none.
    ``on_failure`` is called once, with the error that ended the thread. ``needs_positions`` returns True if positions are
    needed that no record shows (:meth:`reached`). Assignments are changed by other threads, under the writer's mutex.
    """

    def __init__(
        self,
        name: str,
        config: Mapping[str, Any],
        handle: Callable[[Reader, Sequence[Message]], None],
        on_failure: Callable[[Exception], None],
        needs_positions: Callable[[Reader], bool],
    ) -> None:
        self.name = name
        self.consumed = 0
        """How many messages were taken from the consumer's queue."""
        self.last_wake = 0.0
        """When the readers of the store were last woken for this reader's records, by the monotonic clock."""
        self.is_wake_pending = False
        self.saturated: set[str] = set()
        """The topics of full steps since :meth:`saturated_topics` was called last."""
        self.dropped: set[tuple[str, int]] = set()
        """Partitions that were unassigned since the present step's poll began. Their messages in this step may be from old
        offsets."""
        self._assigned: set[tuple[str, int]] = set()
        self._positions = ReadPositions()
        self._statistics: list[tuple[str, int]] = []
        self._handle = handle
        self._on_failure = on_failure
        self._needs_positions = needs_positions
        self._consumer = Consumer(
            {**config, "statistics.interval.ms": _STATISTICS_MS, "stats_cb": self._add_statistics},
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kafkaproxy-read-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def __contains__(self, partition: tuple[str, int]) -> bool:
        """True if the partition is assigned to this reader."""
        return partition in self._assigned

    def assign(self, name: str, offsets: Mapping[int, int]) -> None:
        """Read partitions of a topic from these offsets on."""
        self._consumer.incremental_assign([TopicPartition(name, partition, offset) for partition, offset in offsets.items()])
        now = time.monotonic()
        for partition in offsets:
            self._assigned.add((name, partition))
            self._positions.begin((name, partition), now)

    def unassign(self, name: str, partitions: Iterable[int]) -> None:
        """Stop reading partitions of a topic."""
        ours = [(name, partition) for partition in partitions if (name, partition) in self._assigned]
        if not ours:
            return
        self._consumer.incremental_unassign([TopicPartition(*at) for at in ours])
        self._assigned.difference_update(ours)
        self.dropped.update(ours)
        for at in ours:
            self._positions.forget(at)

    def reached(self, *, is_empty: bool) -> Mapping[tuple[str, int], int]:
        """Return partition → next offset where no record shows it, each position once.

        ``is_empty``: the last poll brought nothing.
        """
        statistics, self._statistics = self._statistics, []
        for each, consumed in statistics:
            self._positions.add_statistics(each, consumed)
        return self._positions.reached(self.consumed, is_empty=is_empty)

    def high_watermark(self, name: str, partition: int) -> int:
        """Return the partition's high watermark as Kafka sent it last; -1001 before the first fetch."""
        known = self._consumer.get_watermark_offsets(TopicPartition(name, partition), cached=True)
        return -1001 if known is None else int(known[1])

    def saturated_topics(self) -> set[str]:
        """Return the topics of full steps since the last call."""
        topics, self.saturated = self.saturated, set()
        return topics

    def close(self) -> None:
        """Stop: wait for the present step, then close the consumer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._step()
        except Exception as error:  # noqa: BLE001 - after any error the writer has to start again
            self._on_failure(error)

    def _step(self) -> None:
        first = self._consumer.poll(_IDLE_SECONDS)
        # Take what is in the queue. Waiting for a full batch would add latency.
        messages = [] if first is None else [first, *self._consumer.consume(_BATCH - 1, 0)]
        self.consumed += len(messages)
        if len(messages) >= _BATCH:
            self.saturated.update({message.topic() or "" for message in messages})
        self._handle(self, messages)

    def _add_statistics(self, statistics: str) -> None:
        if self._needs_positions(self):  # they are large and rarely needed
            # The present step may have taken messages that are not counted yet.
            self._statistics.append((statistics, self.consumed + _BATCH))
