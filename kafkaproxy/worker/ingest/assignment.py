"""Which reader reads which partition, and which errors partitions have."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError

from kafkaproxy.worker.ingest.reader import Reader

__all__ = ["Assignment"]

log = logging.getLogger("kafkaproxy.ingest")

_OUT_OF_RANGE: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001


class Assignment:
    """The partitions that are read. All partitions of a topic are with the same reader. Call it under the writer's mutex."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._readers: dict[str, Reader] = {}
        self._assigned: dict[str, set[int]] = {}
        self._out_of_range: dict[tuple[str, int], float] = {}
        """Topic and partition → when Kafka said that our position is outside of the log, by the monotonic clock."""
        self._denied: set[str] = set()

    def reader(self, name: str) -> Reader | None:
        """Return the reader of a topic; None if no partition of it is read."""
        return self._readers.get(name)

    def topics(self, reader: Reader) -> list[str]:
        """Return the topics of a reader."""
        return [name for name, each in self._readers.items() if each is reader]

    def has(self, reader: Reader, name: str, partition: int) -> bool:
        """Return True if this reader reads the partition at present."""
        return self._readers.get(name) is reader and partition in self._assigned[name]

    def add(self, reader: Reader, name: str, offsets: Mapping[int, int]) -> None:
        """Read partitions of a topic from these offsets on.

        They go to ``reader``, or to the reader that already reads other partitions of the topic.
        """
        reader = self._readers.setdefault(name, reader)
        log.info("topic_reading cluster=%s topic=%s reader=%s from=%s", self._cluster, name, reader.name, dict(offsets))
        reader.assign(name, offsets)
        self._assigned.setdefault(name, set()).update(offsets)
        for partition in offsets:
            self._out_of_range.pop((name, partition), None)

    def drop(self, name: str) -> None:
        """Stop reading a topic."""
        reader = self._readers.pop(name, None)
        partitions = self._assigned.pop(name, set())
        if reader is not None:
            reader.unassign(name, partitions)
        self._denied.discard(name)
        self._out_of_range = {at: since for at, since in self._out_of_range.items() if at[0] != name}

    def move(self, name: str, reader: Reader, offsets: Mapping[int, int]) -> None:
        """Move a topic to another reader, which continues at these offsets."""
        kept = {partition: offsets[partition] for partition in self._assigned[name]}
        self._readers[name].unassign(name, kept)
        self._readers[name] = reader
        reader.assign(name, kept)

    def reassign(self, name: str, offsets: Mapping[int, int]) -> None:
        """Let the topic's reader read partitions from these offsets on. What it brought before may be from other offsets."""
        reader = self._readers[name]
        # librdkafka refuses to assign a partition again that is assigned already.
        reader.unassign(name, offsets)
        reader.assign(name, offsets)

    def skip_to(self, name: str, partition: int, offset: int) -> None:
        """Continue at the log start, which retention has moved past our position.

        What the reader has fetched of before is discarded, and that the position was outside of the log means nothing any more:
        the next check would take it for a truncated log.
        """
        self._out_of_range.pop((name, partition), None)
        if partition in self._assigned.get(name, ()):
            self.reassign(name, {partition: offset})

    def retry_denied(self, name: str, offsets: Mapping[int, int]) -> None:
        """Assign the partitions of a topic that may not be read once more, so that Kafka answers again."""
        if name in self._denied and self._assigned.get(name):
            self.reassign(name, {partition: offsets[partition] for partition in self._assigned[name]})

    def handle_error(self, name: str, partition: int, error: KafkaError) -> None:
        """Handle the error of a partition. A partition whose position is outside of the log is no longer read."""
        log.warning("fetch_error cluster=%s topic=%s partition=%s error=%s", self._cluster, name, partition, error.name())
        if error.code() == _OUT_OF_RANGE:
            self._out_of_range[name, partition] = time.monotonic()
            self._readers[name].unassign(name, [partition])
            self._assigned[name].discard(partition)
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            self._denied.add(name)

    def clear_denied(self, name: str) -> None:
        """Take note that the topic can be read."""
        self._denied.discard(name)

    def is_truncated(self, name: str, positions: Mapping[int, int], earliest: Mapping[int, int], asked: float) -> bool:
        """Return True if a log was truncated, or re-created on a broker without topic ids. ``earliest`` is as of ``asked``.

        That is so if our position is outside of the log, and not before its beginning. Whether the log ends before our position
        says nothing: other clients may have written to it since.
        """
        outside = (each for (topic, each), since in self._out_of_range.items() if topic == name and since <= asked)
        return any(positions.get(each, -1) >= earliest.get(each, 0) for each in outside)

    def missing(self, name: str, positions: Mapping[int, int], asked: float = math.inf) -> dict[int, int]:
        """Return partition → offset of those partitions of ``positions`` that are not read.

        A partition whose position was outside of the log is returned only if Kafka was asked after that (``asked``).
        """
        assigned = self._assigned.get(name, set())
        return {
            partition: offset
            for partition, offset in positions.items()
            if partition not in assigned and self._out_of_range.get((name, partition), asked) <= asked
        }

    def is_denied(self, name: str) -> bool:
        """Return True if Kafka last answered that we may not read the topic, although we may describe it."""
        return name in self._denied
