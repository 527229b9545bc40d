"""What the rings of a topic may hold together: there may be as many as there are ways to filter, so as many as clients."""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["Ring", "RingBudget"]

_BYTES: Final = 64 << 20


class Ring(Protocol):
    """A ring, as far as it concerns others."""

    def halve(self) -> None:
        """Let go of the older half, at least one frame."""
        ...


class RingBudget:
    """Keeps account of rings by the power of two of their size, so that one of the largest is found without looking at all."""

    __slots__ = ("_by_size", "_limit", "size")

    def __init__(self, limit: int = _BYTES) -> None:
        self._limit = limit
        self.size = 0
        """What they hold together, in bytes; what several hold is divided among them."""
        self._by_size: list[dict[Ring, None]] = [{} for _ in range(64)]

    def resized(self, ring: Ring, before: int, after: int) -> None:
        """Note that a ring has grown or shrunk."""
        self.size += after - before
        if before.bit_length() != after.bit_length():
            self._by_size[before.bit_length()].pop(ring, None)
            if after:
                self._by_size[after.bit_length()][ring] = None

    def make_room(self) -> None:
        """Halve the largest until all are within the limit. Who is slow there reads the store again, as after any fall."""
        while self.size > self._limit:
            largest = next(rings for rings in reversed(self._by_size) if rings)
            next(iter(largest)).halve()
