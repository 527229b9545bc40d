"""Fixed targets: the ends that partitions had when reading them began.

A topic is ready when its position has reached its target in every partition, whatever was produced meanwhile (the contract,
*Readiness*). No target depends on silence: a partition that never pauses reaches it as well.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Targets"]


class Targets:
    """Topic → partition → the offset that the position has to reach. For use under the writer's mutex."""

    def __init__(self) -> None:
        self._left: dict[str, dict[int, int]] = {}

    def __contains__(self, topic: str) -> bool:
        """True if a target of the topic has yet to be reached."""
        return topic in self._left

    def __bool__(self) -> bool:
        """True if any target has yet to be reached."""
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
        """Note how far partitions were read; return True if that was the topic's last target."""
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
