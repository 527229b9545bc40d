"""How far a consumer has come where no record shows it: past aborted transactions and commit markers.

librdkafka hands over neither, and says that a partition ended only when a fetch brought nothing. So a partition that receives
aborted transactions without a pause gives no sign at all; only the statistics tell where the next fetch will begin.
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
    """Positions of one consumer, from its statistics. For use under the writer's mutex."""

    def __init__(self) -> None:
        self._before: Mapping[Partition, int] = {}
        """What the last statistics said: every record before these offsets was in the consumer's queue when they came."""
        self._assigned: dict[Partition, float] = {}
        """Since when a partition is read from its present place, by the monotonic clock."""
        self._pending: deque[tuple[int, Mapping[Partition, int]]] = deque()
        """How many messages have to be taken from the queue until the positions hold, and the positions."""

    def begin(self, partition: Partition, now: float) -> None:
        """Note that a partition is read from another place from now on (monotonic seconds)."""
        self.forget(partition)
        self._assigned[partition] = now

    def forget(self, partition: Partition) -> None:
        """Drop what is known of a partition."""
        self._assigned.pop(partition, None)
        self._before = {at: offset for at, offset in self._before.items() if at != partition}
        self._pending = deque(
            (count, {at: offset for at, offset in offsets.items() if at != partition}) for count, offsets in self._pending
        )

    def note(self, statistics: str, taken: int) -> None:
        """Take in statistics (JSON). ``taken``: how many messages were taken from the queue so far."""
        found = json.loads(statistics)
        asked = found["ts"] / _MICROSECONDS
        now: dict[Partition, int] = {}
        queued = 0
        for name, topic in found["topics"].items():
            for number, partition in topic["partitions"].items():
                at = (name, int(number))
                if self._assigned.get(at, asked) < asked and partition["next_offset"] >= 0:
                    now[at] = partition["next_offset"]
                    # All partitions are forwarded to one queue, so each says how long the whole queue is.
                    queued = max(queued, partition["fetchq_cnt"])
        # The offsets of the statistics before: those of now may be ahead of the queue by a moment.
        certain = {at: offset for at, offset in self._before.items() if now.get(at, -1) >= offset}
        if certain:
            self._pending.append((taken + queued, certain))
        self._before = now

    def reached(self, taken: int, *, is_empty: bool) -> dict[Partition, int]:
        """Return, once, the positions that hold now that ``taken`` messages were taken. ``is_empty``: the queue is empty."""
        reached: dict[Partition, int] = {}
        while self._pending and (is_empty or self._pending[0][0] <= taken):
            reached.update(self._pending.popleft()[1])
        return reached
