"""The live end of a topic, for streams: read and decoded once for a process, framed once for each way of framing.

Streams that filter alike share a :class:`Group`: a short ring of frames that each of them walks at its own pace. A stream
that falls behind the ring is a cursor in the store again (:mod:`kafkaproxy.consumers.cursor`); nothing is queued for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from kafkaproxy.core.eventids import make_event_id
from kafkaproxy.core.progress import Encoder
from kafkaproxy.core.sse import record_frame
from kafkaproxy.worker.codec import decode_header
from kafkaproxy.worker.filters import FilterIndex, RecordFilter
from kafkaproxy.worker.store import Store
from kafkaproxy.worker.types import Record

__all__ = ["Framing", "Group", "StreamTail", "frame_of"]

_RING: Final = 2048
_RING_BYTES: Final = 4 << 20
_PER_STEP: Final = 500
_BYTES_PER_STEP: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Framing:
    """How a route frames records."""

    keyed: bool
    as_base64: bool


def frame_of(record: Record, position: str, framing: Framing) -> tuple[bytes, str]:
    """Return a record's frame and its id; ``position`` is the progress after it."""
    event_id = make_event_id(position, record.key, decode_header(record.headers, "etag"), keyed=framing.keyed)
    return record_frame(event_id, record.key, record.value, as_base64=framing.as_base64), event_id


class Group:
    """The streams of one topic that see the same frames: the same filters, the same framing."""

    __slots__ = ("_base", "_bytes", "_ids", "_items", "filters", "framing", "members", "waiters")

    def __init__(self, filters: tuple[RecordFilter, ...], framing: Framing) -> None:
        self.filters = filters
        self.framing = framing
        self.members = 0
        self.waiters: set[asyncio.Future[None]] = set()
        self._items: list[bytes] = []
        self._ids: list[str] = []
        self._base = 0
        self._bytes = 0

    @property
    def end(self) -> int:
        """The sequence number that the next frame gets."""
        return self._base + len(self._items)

    def append(self, frame: bytes, event_id: str) -> None:
        """Add a frame; the oldest half of the ring leaves when it is full."""
        self._items.append(frame)
        self._ids.append(event_id)
        self._bytes += len(frame)
        if len(self._items) > _RING or (self._bytes > _RING_BYTES and len(self._items) > 1):
            half = (len(self._items) + 1) // 2
            self._bytes -= sum(map(len, islice(self._items, half)))
            del self._items[:half], self._ids[:half]
            self._base += half

    def since(self, sequence: int) -> tuple[bytes, str] | None:
        """Return the frames from ``sequence`` on as one piece, and the last id; None where the ring has moved on."""
        start = sequence - self._base
        if start < 0:
            return None
        if start == len(self._items) - 1:  # one new frame, the usual case: it is not copied
            return self._items[-1], self._ids[-1]
        return b"".join(self._items[start:]), self._ids[-1]

    def wake(self) -> None:
        """Wake the streams that wait for more."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class StreamTail:
    """The live end of one topic in one event loop."""

    def __init__(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        self.topic_id = topic_id
        self.positions = dict(positions)
        """Partition → next offset: everything before is in the groups' rings, or was never needed there."""
        self._encoder = Encoder(positions)
        self._groups: dict[tuple[tuple[RecordFilter, ...], Framing], Group] = {}
        self._index: FilterIndex[Group] = FilterIndex()

    @property
    def idle(self) -> bool:
        """Whether no stream follows."""
        return not self._groups

    def position(self) -> str:
        """Return the encoded progress."""
        return self._encoder.text()

    def join(self, filters: tuple[RecordFilter, ...], framing: Framing) -> Group:
        """Return the group of those filters and that framing, with one member more."""
        group = self._groups.get((filters, framing))
        if group is None:
            group = self._groups[filters, framing] = Group(filters, framing)
            self._index.add(filters, group)
        group.members += 1
        return group

    def leave(self, group: Group) -> None:
        """Give a membership back."""
        group.members -= 1
        if not group.members:
            self._groups.pop((group.filters, group.framing), None)
            self._index.remove(group.filters, group)

    def reset(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        """Begin anew: the topic was re-created. Every stream finds out by the topic id."""
        self.topic_id = topic_id
        self.positions = dict(positions)
        self._encoder = Encoder(positions)
        self.wake()

    def wake(self) -> None:
        """Wake every stream."""
        for group in self._groups.values():
            group.wake()

    def advance(self, store: Store) -> bool:
        """Read what is new and frame it for the groups; return whether there is still more."""
        behind = False
        touched: set[Group] = set()
        for partition, end in store.next_offsets(self.topic_id).items():
            start = self.positions.get(partition)
            if start is None:  # the topic grew: a new partition is read from its beginning
                start = store.progress(self.topic_id)[partition].log_start
            if start < end or partition not in self.positions:
                behind |= self._advance_partition(store, partition, start, end, touched)
        for group in touched:
            group.wake()
        return behind

    def _advance_partition(self, store: Store, partition: int, start: int, end: int, touched: set[Group]) -> bool:
        records, reached = store.read(self.topic_id, partition, start, end, _PER_STEP, _BYTES_PER_STEP)
        for record in records:
            self._encoder.set(partition, record.offset + 1)
            self._frame(record, touched)
        self.positions[partition] = reached
        self._encoder.set(partition, reached)
        return reached < end

    def _frame(self, record: Record, touched: set[Group]) -> None:
        position = ""
        frames: dict[Framing, tuple[bytes, str]] = {}
        for group in self._index.find(record):
            if group.framing not in frames:
                position = position or self._encoder.text()
                frames[group.framing] = frame_of(record, position, group.framing)
            group.append(*frames[group.framing])
            touched.add(group)
