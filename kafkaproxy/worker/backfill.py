"""Reading again what was read without a role that a topic has now.

When a route is added, a topic that is served already may need more: its replies found by correlation id, its newest record of
every key. From that moment records that arrive are indexed for the new role too; a reader of its own reads what came before,
up to where the topic stood then, and the topic serves the role when that is done. Meanwhile it goes on serving what it served.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kafkaproxy.worker.reader import Reader
from kafkaproxy.worker.targets import Targets

__all__ = ["Backfills"]


@dataclass(slots=True)
class _Backfill:
    positions: dict[int, int]
    """Partition → next offset."""
    ends: Mapping[int, int]
    """Partition → where the topic stood when the role was added."""


class Backfills:
    """The topics that are read again, with how far they are. For use under the writer's mutex."""

    def __init__(self) -> None:
        self._running: dict[str, _Backfill] = {}
        self._targets = Targets()
        self._reader: Reader | None = None

    def __contains__(self, name: str) -> bool:
        """True if the topic is being read again."""
        return name in self._running

    def __bool__(self) -> bool:
        return bool(self._running)

    def begin(self, reader: Reader, name: str, starts: Mapping[int, int], ends: Mapping[int, int]) -> bool:
        """Read partitions of a topic again, from ``starts`` to ``ends``; return False where there is nothing to read."""
        self._reader = reader
        positions = {partition: starts.get(partition, 0) for partition in ends}
        self._targets.add(name, positions, ends)
        if name not in self._targets:
            return False
        self._running[name] = _Backfill(positions, ends)
        reader.assign(name, {each: offset for each, offset in positions.items() if offset < ends[each]})
        return True

    def drop(self, name: str) -> None:
        """Read a topic no further."""
        known = self._running.pop(name, None)
        self._targets.forget(name)
        if known is not None and self._reader is not None:
            self._reader.unassign(name, known.ends)

    def wants(self, name: str, partition: int, offset: int) -> bool:
        """True if a record at this place is to be read again."""
        known = self._running.get(name)
        return known is not None and offset < known.ends.get(partition, 0)

    def reach(self, name: str, positions: Mapping[int, int]) -> bool:
        """Note how far partitions were read; return True if all of the topic was read again."""
        known = self._running.get(name)
        if known is None or self._reader is None:
            return False
        known.positions.update(positions)
        done = [partition for partition, offset in positions.items() if offset >= known.ends.get(partition, 0)]
        self._reader.unassign(name, done)
        return self._targets.reach(name, positions)

    def again(self, name: str, partition: int, log_start: int = 0) -> None:
        """Read a partition on from where it was read to, or from where its log starts now."""
        known = self._running.get(name)
        if known is None or self._reader is None or partition not in known.positions:
            return
        known.positions[partition] = max(known.positions[partition], log_start)
        self._reader.unassign(name, [partition])
        if known.positions[partition] < known.ends[partition]:
            self._reader.assign(name, {partition: known.positions[partition]})
