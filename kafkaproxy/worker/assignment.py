"""Which reader reads which partition, and what went wrong there."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError

from kafkaproxy.worker.reader import Reader

__all__ = ["Assignment"]

log = logging.getLogger("kafkaproxy.ingest")

_OUT_OF_RANGE: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001


class Assignment:
    """The partitions that are read. All partitions of a topic are with the same reader. For use under the writer's mutex."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._readers: dict[str, Reader] = {}
        self._assigned: dict[str, set[int]] = {}
        self._lost: dict[tuple[str, int], float] = {}
        """Partition → since when we know that our position is outside of the log."""
        self._denied: set[str] = set()

    def reader(self, name: str) -> Reader | None:
        """Return the reader of a topic; None where no partition of it is read."""
        return self._readers.get(name)

    def topics(self, reader: Reader) -> list[str]:
        """Return the topics of a reader."""
        return [name for name, each in self._readers.items() if each is reader]

    def has(self, reader: Reader, name: str, partition: int) -> bool:
        """True if this reader reads the partition at present."""
        return self._readers.get(name) is reader and partition in self._assigned[name]

    def add(self, reader: Reader, name: str, offsets: Mapping[int, int]) -> None:
        """Read partitions of a topic from these offsets on: by ``reader``, or by the one that reads others of the topic."""
        reader = self._readers.setdefault(name, reader)
        log.info("topic_reading cluster=%s topic=%s reader=%s from=%s", self._cluster, name, reader.name, dict(offsets))
        reader.assign(name, offsets)
        self._assigned.setdefault(name, set()).update(offsets)
        for partition in offsets:
            self._lost.pop((name, partition), None)

    def drop(self, name: str) -> None:
        """Read a topic no longer."""
        reader = self._readers.pop(name, None)
        partitions = self._assigned.pop(name, set())
        if reader is not None:
            reader.unassign(name, partitions)
        self._lost = {at: since for at, since in self._lost.items() if at[0] != name}

    def move(self, name: str, reader: Reader, offsets: Mapping[int, int]) -> None:
        """Let another reader go on with a topic, from these offsets."""
        kept = {partition: offsets[partition] for partition in self._assigned[name]}
        self._readers[name].unassign(name, kept)
        self._readers[name] = reader
        reader.assign(name, kept)

    def again(self, name: str, offsets: Mapping[int, int]) -> None:
        """Let the reader of a topic read partitions from these offsets: what it brought of them may be out of place."""
        reader = self._readers[name]
        reader.unassign(name, offsets)
        reader.assign(name, offsets)

    def note_error(self, name: str, partition: int, error: KafkaError) -> None:
        """Note why nothing comes of a partition. One whose position is outside of the log is read no longer."""
        log.warning("fetch_error cluster=%s topic=%s partition=%s error=%s", self._cluster, name, partition, error.name())
        if error.code() == _OUT_OF_RANGE:
            self._lost[name, partition] = time.monotonic()
            self._readers[name].unassign(name, [partition])
            self._assigned[name].discard(partition)
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            self._denied.add(name)

    def note_progress(self, name: str) -> None:
        """Note that something comes of a topic."""
        self._denied.discard(name)

    def is_cut_short(self, name: str, positions: Mapping[int, int], earliest: Mapping[int, int], asked: float) -> bool:
        """True if a log was truncated, or re-created on a broker that has no topic ids; ``earliest`` is as of ``asked``.

        It was if our position is outside of it, and not before its beginning. That the log ends before our position need not be
        so any more: others may have written to it since.
        """
        outside = (each for (topic, each), since in self._lost.items() if topic == name and since <= asked)
        return any(positions.get(each, -1) >= earliest.get(each, 0) for each in outside)

    def missing(self, name: str, positions: Mapping[int, int], asked: float = math.inf) -> dict[int, int]:
        """Return which partitions are not read. One whose position was outside only if Kafka was asked for a better since."""
        assigned = self._assigned.get(name, set())
        return {
            partition: offset
            for partition, offset in positions.items()
            if partition not in assigned and self._lost.get((name, partition), asked) <= asked
        }

    def is_denied(self, name: str) -> bool:
        """True if Kafka said, and has shown nothing else since, that we may not read a topic that we may describe."""
        return name in self._denied
