"""The broadcast ring: the last frames at the live end of a topic, shared by the streams that get the same frames.

A :class:`RingBudget` bounds the memory of a topic's rings together: there may be a ring for every way to filter, so one for
every client.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from kafkaproxy.core.eventids import make_event_id
from kafkaproxy.core.sse import record_frame
from kafkaproxy.worker.filters import RecordFilter
from kafkaproxy.worker.store.codec import decode_header
from kafkaproxy.worker.types import Record

__all__ = ["BroadcastRing", "FrameBatch", "Framing", "RingBudget", "Selection", "frame_record", "wake_waiters"]

_MAX_FRAMES: Final = 2048
_MAX_BYTES: Final = 4 << 20
_ENTRY_BYTES: Final = 64
"""The memory that a frame takes in addition to its bytes and its position."""
_BATCH_BYTES: Final = 1 << 17
"""How many bytes are sent at once: a server may have to buffer them for a client that does not read."""
_WAKES_PER_TURN: Final = 256
_BUDGET_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Framing:
    """How a route frames records."""

    keyed: bool
    as_base64: bool
    id_bytes: int = 4096
    """The longest event id with a key or an etag, in bytes."""


Selection = tuple[tuple[RecordFilter, ...], Framing]
"""Filters and framing: streams with the same selection get the same frames."""


def frame_record(record: Record, position: str, framing: Framing) -> bytes:
    """Return the frame of a record. ``position``: the encoded progress after it."""
    etag = decode_header(record.headers, "etag")
    event_id = make_event_id(position, record.key, etag, keyed=framing.keyed, limit=framing.id_bytes)
    return record_frame(event_id, record.key, record.value, as_base64=framing.as_base64)


class FrameBatch(NamedTuple):
    """Consecutive frames, to be sent at once."""

    frames: bytes
    next: int
    """The sequence number to read next."""
    position: str
    """The encoded progress after the last frame."""


class BroadcastRing:
    """A bounded ring of frames that each subscribed stream reads at its own pace.

    A stream that is too slow for the ring reads the store again (:mod:`kafkaproxy.streaming.catch_up`).
    """

    __slots__ = (
        *("_base", "_batch", "_batch_range", "_budget", "_bytes", "_costs", "_frames", "_positions", "closed", "cost", "end"),
        *("selection", "subscriptions", "waiters"),
    )

    def __init__(self, selection: Selection, budget: RingBudget) -> None:
        self.selection = selection
        self._budget = budget
        self.subscriptions = 0
        """How many streams read the ring."""
        self.waiters: set[asyncio.Future[None]] = set()
        """A future for each stream that has sent every frame and waits for more."""
        self.closed = False
        """True if no frame will be added: streams send the frames that are left, and catch up anew."""
        self._frames: list[bytes] = []
        self._positions: list[str] = []
        self._costs: list[int] = []
        self.cost = 0
        """The memory of the ring in bytes; of a frame that several rings hold, the ring's share."""
        self.end = 0
        """The sequence number of the next frame."""
        self._base = 0
        self._bytes = 0
        self._batch_range = (-1, -1)
        self._batch = FrameBatch(b"", -1, "")

    def append(self, frame: bytes, position: str, sharing: int = 1) -> None:
        """Add a frame that ``sharing`` rings get; drop the older half if the ring is full then."""
        cost = (len(frame) + len(position)) // sharing + _ENTRY_BYTES
        self._frames.append(frame)
        self._positions.append(position)
        self._costs.append(cost)
        self._bytes += len(frame)
        self.end += 1
        self._resize(cost)
        if len(self._frames) > _MAX_FRAMES or (self._bytes > _MAX_BYTES and len(self._frames) > 1):
            self.drop_older_half()

    def drop_older_half(self) -> None:
        """Drop the older half, at least one frame. A stream that has not sent it reads the store again."""
        self._drop((len(self._frames) + 1) // 2)

    def drop_sent(self) -> None:
        """Drop every frame if all streams have sent them. Call before frames are added, and after the last stream has left."""
        if self._frames and len(self.waiters) == self.subscriptions:
            self._drop(len(self._frames))

    def read(self, sequence: int) -> FrameBatch | None:
        """Return frames from ``sequence`` on, at least one; None if they were dropped."""
        if sequence < self._base:
            return None
        # Streams usually read the same range one after another: the frames are joined once for all of them.
        if self._batch_range != (sequence, self.end):
            self._batch_range, self._batch = (sequence, self.end), self._join(sequence - self._base)
        return self._batch

    def wake(self) -> None:
        """Wake the streams that wait for more."""
        wake_waiters(self.waiters)

    def close(self) -> None:
        """Accept no more frames, and wake the streams."""
        self.closed = True
        self.wake()

    def _join(self, start: int) -> FrameBatch:
        stop, size = start, 0
        while stop < len(self._frames) and (stop == start or size + len(self._frames[stop]) <= _BATCH_BYTES):
            size += len(self._frames[stop])
            stop += 1
        return FrameBatch(b"".join(self._frames[start:stop]), self._base + stop, self._positions[stop - 1])

    def _drop(self, count: int) -> None:
        self._bytes -= sum(map(len, islice(self._frames, count)))
        self._resize(-sum(islice(self._costs, count)))
        del self._frames[:count], self._positions[:count], self._costs[:count]
        self._base += count

    def _resize(self, change: int) -> None:
        self._budget.resized(self, self.cost, self.cost + change)
        self.cost += change


class RingBudget:
    """Bounds the memory of a topic's rings together, in bytes.

    The rings are grouped by the power of two of their size, so that one of the largest is found without comparing all.
    """

    __slots__ = ("_by_size", "_limit", "size")

    def __init__(self, limit: int = _BUDGET_BYTES) -> None:
        self._limit = limit
        self.size = 0
        """The memory of all rings in bytes. A frame that several rings hold counts once."""
        self._by_size: list[dict[BroadcastRing, None]] = [{} for _ in range(64)]

    def resized(self, ring: BroadcastRing, before: int, after: int) -> None:
        """Account for a ring that has grown or shrunk."""
        self.size += after - before
        if before.bit_length() != after.bit_length():
            self._by_size[before.bit_length()].pop(ring, None)
            if after:
                self._by_size[after.bit_length()][ring] = None

    def enforce(self) -> None:
        """Drop the older half of the largest rings until all are within the limit; their slow streams read the store again."""
        while self.size > self._limit:
            largest = next(rings for rings in reversed(self._by_size) if rings)
            next(iter(largest)).drop_older_half()


def wake_waiters(waiters: set[asyncio.Future[None]]) -> None:
    """Complete the futures and empty the set; a bounded number of futures in each turn of the event loop.

    Thousands of tasks woken in one turn allocate so many objects at once that the garbage collector runs over all objects again
    and again.
    """
    left = list(waiters)
    waiters.clear()
    _wake_some(left)


def _wake_some(left: list[asyncio.Future[None]]) -> None:
    for waiter in left[-_WAKES_PER_TURN:]:
        if not waiter.done():
            waiter.set_result(None)
    del left[-_WAKES_PER_TURN:]
    if left:
        asyncio.get_running_loop().call_soon(_wake_some, left)
