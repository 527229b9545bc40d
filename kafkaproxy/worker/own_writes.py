"""Read your writes: which acknowledged records of this process the store does not hold yet."""

from __future__ import annotations

from collections.abc import Mapping

from kafkaproxy.worker.types import Delivery

__all__ = ["OwnWrites"]


class OwnWrites:
    """The topics whose newest records this process produced and the store has yet to read back from Kafka."""

    def __init__(self) -> None:
        self.next_offsets: dict[str, dict[int, int]] = {}
        """Topic → partition → the next offset that the store has to reach. Look-ups on the request path read it directly."""

    def add(self, delivery: Delivery) -> None:
        """Require that the store holds this record."""
        offsets = self.next_offsets.setdefault(delivery.topic, {})
        offsets[delivery.partition] = max(offsets.get(delivery.partition, 0), delivery.offset + 1)

    def discard(self, topic: str) -> None:
        """Require nothing of a topic any more, for instance because it was re-created."""
        self.next_offsets.pop(topic, None)

    def are_stored(self, topic: str, reached: Mapping[int, int]) -> bool:
        """Return True if the store holds what this process wrote. ``reached``: its next offset of every partition."""
        required = self.next_offsets.get(topic, {})
        if any(reached.get(partition, 0) < offset for partition, offset in required.items()):
            return False
        self.discard(topic)
        return True
