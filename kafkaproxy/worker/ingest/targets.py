"""Fixed targets: the ends of the partitions when reading them began.

A topic is ready when its position has reached the target in every partition, whatever was produced meanwhile (the contract,
*Readiness*). A target is a fixed offset and not "no new records": a partition that always receives records becomes ready too.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Targets"]


class Targets:
    """Topic → partition → the offset that the position has to reach. Call it under the writer's mutex."""

    def __init__(self) -> None:
        self._left: dict[str, dict[int, int]] = {}

    def __contains__(self, topic: str) -> bool:
        """True if a target of the topic has not been reached."""
        return topic in self._left

    def __bool__(self) -> bool:
        """True if any target has not been reached."""
        return bool(self._left)

    def add(self, topic: str, positions: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Set the targets of partitions to ``ends``, except where the position is there already.

        Where it is in all of them, the next sign of one partition (a record, or its end) is waited for all the same: it shows
        that Kafka lets us read the topic.
        """
        left = {partition: end for partition, end in ends.items() if positions.get(partition, 0) < end}
        if not left and positions and topic not in self._left:
            partition = min(positions)
            left = {partition: positions[partition]}
        if left:
            self._left.setdefault(topic, {}).update(left)

    def reach(self, topic: str, positions: Mapping[int, int]) -> bool:
        """Apply the positions of partitions (next offsets); return True if that reached the topic's last target."""
        left = self._left.get(topic)
        if left is None:
            return False
        for partition, position in positions.items():
            if position >= left.get(partition, position + 1):
                del left[partition]
        if left:
            return False
        del self._left[topic]
        return True

    def forget(self, topic: str) -> None:
        """Drop the targets of a topic."""
        self._left.pop(topic, None)
