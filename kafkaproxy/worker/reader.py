"""A reader: one consumer of the writer, and the thread that polls it.

The writer has up to three of them, so that what is read in bulk does not hold up what is live: librdkafka puts the records of
all partitions of a consumer into one queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, Message, TopicPartition

from kafkaproxy.worker.positions import ReadPositions

__all__ = ["Reader"]

_BATCH: Final = 200
"""Messages of one step: a few milliseconds of work, for which the other readers wait at the most."""
_IDLE_SECONDS: Final = 0.05
_STATISTICS_MS: Final = 300


class Reader:
    """Polls partitions that are assigned to it and hands over what comes, a step at a time.

    ``take`` is called from the reader's thread with every step's messages, also with none. ``failed`` is called once, with what
    ended the thread. Assignments are changed by other threads, under the writer's mutex.
    """

    def __init__(
        self,
        name: str,
        config: Mapping[str, Any],
        take: Callable[[Reader, Sequence[Message]], None],
        failed: Callable[[Exception], None],
        wants_positions: Callable[[Reader], bool],
    ) -> None:
        self.name = name
        self.taken = 0
        """How many messages were taken from the consumer's queue."""
        self.last_wake = 0.0
        """When readers of the store were last told of what this reader brought (monotonic seconds)."""
        self.owes_wake = False
        self.saturated: set[str] = set()
        """The topics of steps that were full, since :meth:`saturated_topics` was called."""
        self.dropped: set[tuple[str, int]] = set()
        """Partitions that were dropped since the present step's poll began: what it brings of them may be out of place."""
        self._assigned: set[tuple[str, int]] = set()
        self._positions = ReadPositions()
        self._statistics: list[tuple[str, int]] = []
        self._take = take
        self._failed = failed
        self._wants_positions = wants_positions
        self._consumer = Consumer(
            {**config, "statistics.interval.ms": _STATISTICS_MS, "stats_cb": self._note_statistics},
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
        """Read partitions of a topic no longer."""
        ours = [(name, partition) for partition in partitions if (name, partition) in self._assigned]
        if not ours:
            return
        self._consumer.incremental_unassign([TopicPartition(*at) for at in ours])
        self._assigned.difference_update(ours)
        self.dropped.update(ours)
        for at in ours:
            self._positions.forget(at)

    def reached(self, *, is_empty: bool) -> Mapping[tuple[str, int], int]:
        """Return, once, partition → position, where no record shows it. ``is_empty``: the last poll brought nothing."""
        statistics, self._statistics = self._statistics, []
        for each, taken in statistics:
            self._positions.note(each, taken)
        return self._positions.reached(self.taken, is_empty=is_empty)

    def high_watermark(self, name: str, partition: int) -> int:
        """Return where Kafka said last that the partition ends; -1001 where nothing was fetched yet."""
        known = self._consumer.get_watermark_offsets(TopicPartition(name, partition), cached=True)
        return -1001 if known is None else int(known[1])

    def saturated_topics(self) -> set[str]:
        """Return the topics of full steps since the last call."""
        topics, self.saturated = self.saturated, set()
        return topics

    def close(self) -> None:
        """Stop: wait for the step that is under way, close the consumer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._step()
        except Exception as error:  # noqa: BLE001 - whatever it was, the writer has to begin anew
            self._failed(error)

    def _step(self) -> None:
        first = self._consumer.poll(_IDLE_SECONDS)
        # Waiting for a full batch would cost latency: take what is there.
        messages = [] if first is None else [first, *self._consumer.consume(_BATCH - 1, 0)]
        self.taken += len(messages)
        if len(messages) >= _BATCH:
            self.saturated.update({message.topic() or "" for message in messages})
        self._take(self, messages)

    def _note_statistics(self, statistics: str) -> None:
        if self._wants_positions(self):  # they are large, and rarely needed
            # A step that is under way may have taken some already, which are not counted yet.
            self._statistics.append((statistics, self.taken + _BATCH))
