"""The streams at the live end of a topic that see the same frames, and the short ring of frames that they walk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from kafkaproxy.core.eventids import make_event_id
from kafkaproxy.core.sse import record_frame
from kafkaproxy.streaming.ring_budget import RingBudget
from kafkaproxy.worker.filters import RecordFilter
from kafkaproxy.worker.store.codec import decode_header
from kafkaproxy.worker.types import Record

__all__ = ["BroadcastRing", "Framing", "Piece", "Selection", "frame_of", "release"]

_RING: Final = 2048
_RING_BYTES: Final = 4 << 20
_ENTRY_BYTES: Final = 64
"""What a frame takes beside itself."""
# What a server may have to hold for a client that does not read.
_PIECE_BYTES: Final = 1 << 17
_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class Framing:
    """How a route frames records."""

    keyed: bool
    as_base64: bool
    id_bytes: int = 4096
    """The longest event id with a key or an etag."""


Selection = tuple[tuple[RecordFilter, ...], Framing]
"""What decides which frames a stream gets."""


def frame_of(record: Record, position: str, framing: Framing) -> bytes:
    """Return a record's frame; ``position`` is the progress after it."""
    etag = decode_header(record.headers, "etag")
    event_id = make_event_id(position, record.key, etag, keyed=framing.keyed, limit=framing.id_bytes)
    return record_frame(event_id, record.key, record.value, as_base64=framing.as_base64)


class Piece(NamedTuple):
    """Frames to send at once."""

    frames: bytes
    next: int
    """The sequence number to go on from."""
    position: str
    """The progress after the last frame."""


class BroadcastRing:
    """A ring of frames. It holds what some member has yet to send, up to a bound; who is slower reads the store again."""

    __slots__ = (
        *("_base", "_bytes", "_costs", "_frames", "_joined", "_piece", "_positions", "_budget", "closed", "cost", "end"),
        *("members", "selection", "waiters"),
    )

    def __init__(self, selection: Selection, rings: RingBudget) -> None:
        self.selection = selection
        self._budget = rings
        self.members = 0
        self.waiters: set[asyncio.Future[None]] = set()
        """The members that have sent everything."""
        self.closed = False
        """Whether nothing will be added: members send what is left and look for their place anew."""
        self._frames: list[bytes] = []
        self._positions: list[str] = []
        self._costs: list[int] = []
        self.cost = 0
        """What the ring takes, in bytes; it has its share of frames that other rings hold as well."""
        self.end = 0
        """The sequence number that the next frame gets."""
        self._base = 0
        self._bytes = 0
        self._joined = (-1, -1)
        self._piece = Piece(b"", -1, "")

    def append(self, frame: bytes, position: str, sharing: int = 1) -> None:
        """Add a frame, which so many rings get; the older half of the ring leaves when it is full."""
        cost = (len(frame) + len(position)) // sharing + _ENTRY_BYTES
        self._frames.append(frame)
        self._positions.append(position)
        self._costs.append(cost)
        self._bytes += len(frame)
        self.end += 1
        self._resize(cost)
        if len(self._frames) > _RING or (self._bytes > _RING_BYTES and len(self._frames) > 1):
            self.halve()

    def halve(self) -> None:
        """Let go of the older half; who has not sent it reads the store again."""
        self._drop((len(self._frames) + 1) // 2)

    def trim(self) -> None:
        """Forget what every member has sent; call before frames are added, and when the last member has left."""
        if self._frames and len(self.waiters) == self.members:
            self._drop(len(self._frames))

    def since(self, sequence: int) -> Piece | None:
        """Return frames from ``sequence`` on; None where the ring has moved on."""
        if sequence < self._base:
            return None
        if self._joined != (sequence, self.end):  # else another member has just asked for the same
            self._joined, self._piece = (sequence, self.end), self._join(sequence - self._base)
        return self._piece

    def wake(self) -> None:
        """Wake the members that wait for more."""
        release(self.waiters)

    def close(self) -> None:
        """Add nothing any more."""
        self.closed = True
        self.wake()

    def _join(self, start: int) -> Piece:
        stop, size = start, 0
        while stop < len(self._frames) and (stop == start or size + len(self._frames[stop]) <= _PIECE_BYTES):
            size += len(self._frames[stop])
            stop += 1
        return Piece(b"".join(self._frames[start:stop]), self._base + stop, self._positions[stop - 1])

    def _drop(self, count: int) -> None:
        self._bytes -= sum(map(len, islice(self._frames, count)))
        self._resize(-sum(islice(self._costs, count)))
        del self._frames[:count], self._positions[:count], self._costs[:count]
        self._base += count

    def _resize(self, change: int) -> None:
        self._budget.resized(self, self.cost, self.cost + change)
        self.cost += change


def release(waiters: set[asyncio.Future[None]]) -> None:
    """Wake all of them, once, some in each turn of the loop.

    What thousands of wakes at once leave behind until their turn comes would set off the garbage collector again and again,
    which then looks at all that there is.
    """
    left = list(waiters)
    waiters.clear()
    _wake_some(left)


def _wake_some(left: list[asyncio.Future[None]]) -> None:
    for waiter in left[-_AT_ONCE:]:
        if not waiter.done():
            waiter.set_result(None)
    del left[-_AT_ONCE:]
    if left:
        asyncio.get_running_loop().call_soon(_wake_some, left)
