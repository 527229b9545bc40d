"""Backfills: reading records again that were read before the topic had a certain role.

When a route is added, a topic that is served already may need more: its replies by correlation id, or its newest record of
every key. From that moment new records are indexed for the new role too. The backfill reader reads the older records, up to
where the topic was then, and the topic serves the role when that is done. Meanwhile it goes on serving its other roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kafkaproxy.worker.ingest.reader import Reader
from kafkaproxy.worker.ingest.targets import Targets

__all__ = ["Backfills"]


@dataclass(slots=True)
class _Backfill:
    positions: dict[int, int]
    """Partition → next offset."""
    ends: Mapping[int, int]
    """Partition → the next offset of the topic when the role was added."""


class Backfills:
    """The topics with a backfill, and how far each is. Call it under the writer's mutex."""

    def __init__(self) -> None:
        self._running: dict[str, _Backfill] = {}
        self._targets = Targets()
        self._reader: Reader | None = None

    def __contains__(self, name: str) -> bool:
        """True if the topic has a backfill."""
        return name in self._running

    def __bool__(self) -> bool:
        return bool(self._running)

    def begin(self, reader: Reader, name: str, starts: Mapping[int, int], ends: Mapping[int, int]) -> bool:
        """Read partitions of a topic again, from ``starts`` to ``ends``; return False if there is nothing to read."""
        self._reader = reader
        positions = {partition: starts.get(partition, 0) for partition in ends}
        if all(offset >= ends[partition] for partition, offset in positions.items()):
            return False
        self._targets.add(name, positions, ends)
        self._running[name] = _Backfill(positions, ends)
        reader.assign(name, {each: offset for each, offset in positions.items() if offset < ends[each]})
        return True

    def drop(self, name: str) -> None:
        """End the backfill of a topic."""
        known = self._running.pop(name, None)
        self._targets.forget(name)
        if known is not None and self._reader is not None:
            self._reader.unassign(name, known.ends)

    def includes(self, name: str, partition: int, offset: int) -> bool:
        """Return True if the backfill of the topic includes this record."""
        known = self._running.get(name)
        return known is not None and offset < known.ends.get(partition, 0)

    def reach(self, name: str, positions: Mapping[int, int]) -> bool:
        """Apply the positions of partitions; return True if the topic's backfill is complete."""
        known = self._running.get(name)
        if known is None or self._reader is None:
            return False
        known.positions.update(positions)
        done = [partition for partition, offset in positions.items() if offset >= known.ends.get(partition, 0)]
        self._reader.unassign(name, done)
        return self._targets.reach(name, positions)

    def reassign(self, name: str, partition: int, log_start: int = 0) -> bool:
        """Continue a partition's backfill at its position, or at its log start if retention has passed that.

        Return True if with it the topic's backfill is complete: nothing is left to read.
        """
        known = self._running.get(name)
        if known is None or self._reader is None or partition not in known.positions:
            return False
        known.positions[partition] = max(known.positions[partition], log_start)
        self._reader.unassign(name, [partition])
        if known.positions[partition] < known.ends[partition]:
            self._reader.assign(name, {partition: known.positions[partition]})
        return self._targets.reach(name, {partition: known.positions[partition]})
