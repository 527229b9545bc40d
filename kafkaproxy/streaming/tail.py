"""The live end of a topic, for streams: read and decoded once for a process, framed once for each way of framing.

Streams with the same selection share a :class:`BroadcastRing` and walk its frames, each at its own pace. A stream that falls
behind the ring reads the store again (:mod:`kafkaproxy.streaming.catch_up`); nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Final

from kafkaproxy.core.progress import Encoder
from kafkaproxy.streaming.broadcast import BroadcastRing, Framing, Selection, frame_of, release
from kafkaproxy.streaming.pages import Pages
from kafkaproxy.streaming.ring_budget import RingBudget
from kafkaproxy.worker.errors import Unavailable
from kafkaproxy.worker.filters import FilterIndex
from kafkaproxy.worker.notify.hub import round_robin
from kafkaproxy.worker.store.reader import Progress, Store, TopicState
from kafkaproxy.worker.types import Record

__all__ = ["StreamTail"]

_PER_STEP: Final = 100
_BYTES_PER_STEP: Final = 4 << 20


class StreamTail:
    """The live end of one topic in one event loop."""

    def __init__(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        self.ended = False
        """Whether the topic is not read any more: streams end."""
        self.waiters: set[asyncio.Future[None]] = set()
        """The streams that wait for the end to move, without a place in a ring."""
        self._last = -1
        """The partition that was read last."""
        self._rings: dict[Selection, BroadcastRing] = {}
        self._budget = RingBudget()
        self._begin(topic_id, positions)

    def _begin(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        self.topic_id = topic_id
        self.positions = dict(positions)
        """Partition → next offset: everything before is in the rings' rings, or was never needed there."""
        self.epoch = object()
        """Replaced when offsets lose their meaning: the topic was re-created, or its log cut short."""
        self.pages = Pages()
        self._encoder = Encoder(positions)
        self._index: FilterIndex[BroadcastRing] = FilterIndex()

    @property
    def position(self) -> str:
        """The encoded progress."""
        return self._encoder.text()

    def join(self, selection: Selection) -> BroadcastRing:
        """Return the ring of that selection, with one member more."""
        ring = self._rings.get(selection)
        if ring is None:
            ring = self._rings[selection] = BroadcastRing(selection, self._budget)
            self._index.add(selection[0], ring)
        ring.members += 1
        return ring

    def leave(self, ring: BroadcastRing) -> None:
        """Give a membership back."""
        ring.members -= 1
        if ring.members:
            return
        ring.trim()
        if self._rings.get(ring.selection) is ring:
            del self._rings[ring.selection]
            self._index.remove(ring.selection[0], ring)

    def mark_changed(self) -> None:
        """Let those who wait without a place look again: the store has changed, though the end need not have moved."""
        release(self.waiters)

    def reset(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        """Begin anew. Streams find out by the epoch, after what is left in their rings."""
        self._begin(topic_id, positions)
        self._send_back()

    def change_topic(self, state: TopicState | None, store: Store) -> bool:
        """Take in another state of the topic; return False if its streams end.

        They do if it is read no longer: nothing will come, and a client that comes back is told why. They begin anew if it is
        another log now, or if the log, read to its end, ends before what was streamed of it.
        """
        if state is None or state.error == Unavailable.STORE_FULL:
            self.end()
            return False
        if state.key and (state.key != self.topic_id or (state.ready and self._is_cut_short(store))):
            self.reset(state.key, store.next_offsets(state.key))
        return True

    def _is_cut_short(self, store: Store) -> bool:
        reached = store.next_offsets(self.topic_id)
        return any(partition in reached and reached[partition] < offset for partition, offset in self.positions.items())

    def end(self) -> None:
        """End every stream."""
        self.ended = True
        self._send_back()

    def advance(self, store: Store, deadline: float = math.inf) -> bool:
        """Read what is new and frame it for the rings; return True if there is more.

        ``deadline``: when to stop, by the performance counter.
        """
        behind = moved = False
        touched: set[BroadcastRing] = set()
        known = store.progress(self.topic_id)
        for partition in round_robin(known, self._last):
            progress = known[partition]
            if moved and time.perf_counter() > deadline:
                behind = True
                break
            # A partition that the topic grew by is read from its beginning.
            start = self.positions.get(partition, progress.log_start)
            if start < progress.next_offset or partition not in self.positions:
                behind |= self._advance_partition(store, partition, start, progress, touched)
                moved, self._last = True, partition
        for ring in touched:
            ring.wake()
        if moved:
            release(self.waiters)
        return behind

    def _advance_partition(
        self, store: Store, partition: int, start: int, known: Progress, touched: set[BroadcastRing]
    ) -> bool:
        if not self._rings:  # nobody is here to see it; cursors read for themselves
            self._move(partition, known.next_offset)
            return False
        read = store.read_log(self.topic_id, partition, start, known.next_offset, _PER_STEP, _BYTES_PER_STEP)
        if read is None:  # the store let go of records before they were read here
            self._move(partition, known.next_offset)
            self._send_back()
            return False
        records, reached = read
        for record in records:
            self._encoder.set(partition, record.offset + 1)
            self._frame(record, touched)
        self._move(partition, reached)
        return reached < known.next_offset

    def _move(self, partition: int, offset: int) -> None:
        self.positions[partition] = offset
        self._encoder.set(partition, offset)

    def _frame(self, record: Record, touched: set[BroadcastRing]) -> None:
        position = ""
        frames: dict[Framing, bytes] = {}
        rings = list(self._index.find(record))
        for ring in rings:
            if ring not in touched:
                touched.add(ring)
                ring.trim()
            position = position or self._encoder.text()
            framing = ring.selection[1]
            if framing not in frames:
                frames[framing] = frame_of(record, position, framing)
            ring.append(frames[framing], position, len(rings))
        self._budget.make_room()

    def _send_back(self) -> None:
        """Close the rings: every stream reads on as a cursor from where it is."""
        rings, self._rings = self._rings, {}
        self._index = FilterIndex()
        for ring in rings.values():
            ring.close()
        release(self.waiters)
