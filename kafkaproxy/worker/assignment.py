"""What a writer's consumer reads at the moment, and which topics it has not read to their ends yet."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from kafkaproxy.worker.store import TopicState

__all__ = ["Assignment"]

log = logging.getLogger("kafkaproxy.ingest")

_OUT_OF_RANGE: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001


class Assignment:
    """The partitions of one consumer. For the writer's thread."""

    def __init__(self, cluster: str, consumer: Consumer) -> None:
        self._cluster = cluster
        self._consumer = consumer
        self._assigned: set[tuple[str, int]] = set()
        self._unread: dict[str, set[int]] = {}
        """Topic → partitions that were not read to their end since they were assigned."""
        self._lost: dict[tuple[str, int], float] = {}
        """Partition → since when we know that our position is outside of the log."""
        self._denied: set[str] = set()

    def __contains__(self, at: tuple[str, int]) -> bool:
        """Whether a partition is read."""
        return at in self._assigned

    def add(self, state: TopicState, offsets: Mapping[int, int]) -> None:
        """Read partitions of a topic from these offsets on."""
        log.info("topic_reading cluster=%s topic=%s from=%s", self._cluster, state.name, dict(offsets))
        parts = [TopicPartition(state.name, partition, offset) for partition, offset in offsets.items()]
        self._consumer.incremental_assign(parts)
        self._assigned.update((state.name, partition) for partition in offsets)
        for partition in offsets:
            self._lost.pop((state.name, partition), None)
        if not state.ready:
            self._unread.setdefault(state.name, set()).update(offsets)

    def drop(self, name: str) -> None:
        """Read a topic no longer."""
        parts = [at for at in self._assigned if at[0] == name]
        if parts:
            self._consumer.incremental_unassign([TopicPartition(*at) for at in parts])
            self._assigned.difference_update(parts)
        self._lost = {at: since for at, since in self._lost.items() if at[0] != name}
        self._unread.pop(name, None)

    def note_error(self, name: str, partition: int, error: KafkaError) -> None:
        """Note why nothing comes of a partition. One whose position is outside of the log is read no longer."""
        log.warning("fetch_error cluster=%s topic=%s partition=%s error=%s", self._cluster, name, partition, error.name())
        if error.code() == _OUT_OF_RANGE:
            self._lost[name, partition] = time.monotonic()
            self._consumer.incremental_unassign([TopicPartition(name, partition)])
            self._assigned.discard((name, partition))
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            self._denied.add(name)

    def note_progress(self, name: str) -> None:
        """Note that something comes of a topic."""
        self._denied.discard(name)

    def is_cut_short(self, name: str, positions: Mapping[int, int], earliest: Mapping[int, int], asked: float) -> bool:
        """Whether a log was truncated, or re-created on a broker that has no topic ids; ``earliest`` is as of ``asked``.

        It was if our position is outside of it, and not before its beginning. That the log ends before our position need not be
        so any more: others may have written to it since.
        """
        outside = (each for (topic, each), since in self._lost.items() if topic == name and since <= asked)
        return any(positions.get(each, -1) >= earliest.get(each, 0) for each in outside)

    def missing(self, name: str, positions: Mapping[int, int], asked: float = math.inf) -> dict[int, int]:
        """Return which partitions are not read. One whose position was outside only if Kafka was asked for a better since."""
        return {
            partition: offset
            for partition, offset in positions.items()
            if (name, partition) not in self._assigned and self._lost.get((name, partition), asked) <= asked
        }

    def is_denied(self, name: str) -> bool:
        """Whether Kafka said, and has shown nothing else since, that we may not read a topic that we may describe."""
        return name in self._denied

    def has_reached_end(self, name: str, partition: int) -> bool:
        """Note that a partition was read to its end; return whether with it the whole topic was, for the first time."""
        unread = self._unread.get(name)
        if unread is None:
            return False
        unread.discard(partition)
        if unread:
            return False
        del self._unread[name]
        return True
