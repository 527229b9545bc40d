"""How far a consumer has read where no record shows it: past aborted transactions and commit markers.

librdkafka passes on neither, and reports the end of a partition only after a fetch that brought nothing. So for a partition
that receives aborted transactions all the time it reports nothing at all; only its statistics say where the next fetch begins.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Final

__all__ = ["ReadPositions"]

Partition = tuple[str, int]
_MICROSECONDS: Final = 1_000_000


class ReadPositions:
    """Positions of one consumer, from its statistics. Call it under the writer's mutex."""

    def __init__(self) -> None:
        self._before: Mapping[Partition, int] = {}
        """Partition → next offset of the last statistics. Every record before it was in the consumer's queue when they came."""
        self._assigned: dict[Partition, float] = {}
        """Partition → when it was assigned at its present offset, by the monotonic clock."""
        self._pending: deque[tuple[int, Mapping[Partition, int]]] = deque()
        """How many messages have to be taken from the queue until the positions are valid, and the positions."""

    def begin(self, partition: Partition, now: float) -> None:
        """Take note that a partition is read from another offset, from ``now`` on (monotonic seconds)."""
        self.forget(partition)
        self._assigned[partition] = now

    def forget(self, partition: Partition) -> None:
        """Forget a partition."""
        self._assigned.pop(partition, None)
        self._before = {at: offset for at, offset in self._before.items() if at != partition}
        self._pending = deque(
            (count, {at: offset for at, offset in offsets.items() if at != partition}) for count, offsets in self._pending
        )

    def add_statistics(self, statistics: str, consumed: int) -> None:
        """Add statistics (JSON) of the consumer. ``consumed``: how many messages were taken from its queue so far."""
        found = json.loads(statistics)
        asked = found["ts"] / _MICROSECONDS
        now: dict[Partition, int] = {}
        queued = 0
        for name, topic in found["topics"].items():
            for number, partition in topic["partitions"].items():
                at = (name, int(number))
                if self._assigned.get(at, asked) < asked and partition["next_offset"] >= 0:
                    now[at] = partition["next_offset"]
                    # All partitions are forwarded to one queue, so each reports the length of the whole queue.
                    queued = max(queued, partition["fetchq_cnt"])
        # Use the offsets of the statistics before: those of now may be slightly ahead of what is in the queue.
        certain = {at: offset for at, offset in self._before.items() if now.get(at, -1) >= offset}
        if certain:
            self._pending.append((consumed + queued, certain))
        self._before = now

    def reached(self, consumed: int, *, is_empty: bool) -> dict[Partition, int]:
        """Return partition → next offset, each position once, as soon as it is valid.

        A position is valid when enough messages were ``consumed``, or if the queue ``is_empty``.
        """
        reached: dict[Partition, int] = {}
        while self._pending and (is_empty or self._pending[0][0] <= consumed):
            reached.update(self._pending.popleft()[1])
        return reached
