"""The live end of a topic: its new records are read once per event loop, and framed once per framing.

Streams with the same selection share a :class:`BroadcastRing` and read it, each at its own pace. A stream that falls behind the
ring reads the store again (:mod:`kafkaproxy.streaming.catch_up`); nothing is queued for a stream.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Final

from kafkaproxy.core.progress import Encoder
from kafkaproxy.streaming.broadcast import BroadcastRing, Framing, RingBudget, Selection, frame_record, wake_waiters
from kafkaproxy.streaming.page_cache import PageCache
from kafkaproxy.worker.errors import Unavailable
from kafkaproxy.worker.filters import FilterIndex
from kafkaproxy.worker.notify.hub import round_robin
from kafkaproxy.worker.store.reader import Progress, Store, TopicState
from kafkaproxy.worker.types import Record

__all__ = ["StreamTail"]

_RECORDS_PER_STEP: Final = 100
_BYTES_PER_STEP: Final = 4 << 20


class StreamTail:
    """The live end of one topic in one event loop."""

    def __init__(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        self.ended = False
        """True if the topic is not read any more: streams end."""
        self.waiters: set[asyncio.Future[None]] = set()
        """A future for each stream that waits for the live end to move without a subscription to a ring."""
        self._last = -1
        """The partition that was read last."""
        self._rings: dict[Selection, BroadcastRing] = {}
        self._budget = RingBudget()
        self._begin(topic_id, positions)

    def _begin(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        self.topic_id = topic_id
        self.positions = dict(positions)
        """Partition → next offset. Records before it are in the rings, as far as a stream needs them there."""
        self.epoch = object()
        """Replaced when offsets become invalid: the topic was re-created, or its log truncated."""
        self.pages = PageCache()
        self._encoder = Encoder(positions)
        self._index: FilterIndex[BroadcastRing] = FilterIndex()

    @property
    def position(self) -> str:
        """The encoded progress."""
        return self._encoder.text()

    def subscribe(self, selection: Selection) -> BroadcastRing:
        """Subscribe to the ring of that selection, and return it."""
        ring = self._rings.get(selection)
        if ring is None:
            ring = self._rings[selection] = BroadcastRing(selection, self._budget)
            self._index.add(selection[0], ring)
        ring.subscriptions += 1
        return ring

    def unsubscribe(self, ring: BroadcastRing) -> None:
        """End a subscription; the last one removes the ring."""
        ring.subscriptions -= 1
        if ring.subscriptions:
            return
        ring.drop_sent()
        if self._rings.get(ring.selection) is ring:
            del self._rings[ring.selection]
            self._index.remove(ring.selection[0], ring)

    def mark_changed(self) -> None:
        """Wake the streams that wait without a subscription: the store has changed, though the live end may not have moved."""
        wake_waiters(self.waiters)

    def reset(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        """Start a new epoch. Streams notice it after they have sent what is left in their rings."""
        self._begin(topic_id, positions)
        self._close_rings()

    def change_topic(self, state: TopicState | None, store: Store) -> bool:
        """Take over a changed state of the topic; return False if its streams end.

        They end if the topic is not read any more; a client that reconnects is told why. They start anew if the topic was
        re-created, or if its log, read to its end, is shorter than what was streamed.
        """
        if state is None or state.error == Unavailable.STORE_FULL:
            self.end()
            return False
        if state.key and (state.key != self.topic_id or (state.ready and self._is_truncated(store))):
            self.reset(state.key, store.next_offsets(state.key))
        return True

    def _is_truncated(self, store: Store) -> bool:
        reached = store.next_offsets(self.topic_id)
        return any(partition in reached and reached[partition] < offset for partition, offset in self.positions.items())

    def end(self) -> None:
        """End all streams."""
        self.ended = True
        self._close_rings()

    def advance(self, store: Store, deadline: float = math.inf) -> bool:
        """Read new records and add their frames to the rings; return True if there is more to read.

        ``deadline``: when to stop, in seconds of ``time.perf_counter()``.
        """
        behind = moved = False
        touched: set[BroadcastRing] = set()
        known = store.progress(self.topic_id)
        for partition in round_robin(known, self._last):
            progress = known[partition]
            if moved and time.perf_counter() > deadline:
                behind = True
                break
            # A partition that was added to the topic is read from its beginning.
            start = self.positions.get(partition, progress.log_start)
            if start < progress.next_offset or partition not in self.positions:
                behind |= self._advance_partition(store, partition, start, progress, touched)
                moved, self._last = True, partition
        for ring in touched:
            ring.wake()
        if moved:
            wake_waiters(self.waiters)
        return behind

    def _advance_partition(
        self, store: Store, partition: int, start: int, known: Progress, touched: set[BroadcastRing]
    ) -> bool:
        if not self._rings:  # no stream is at the live end; those that catch up read for themselves
            self._move(partition, known.next_offset)
            return False
        read = store.read_log(self.topic_id, partition, start, known.next_offset, _RECORDS_PER_STEP, _BYTES_PER_STEP)
        if read is None:  # the store dropped records before they were read here: streams report the gap
            self._move(partition, known.next_offset)
            self._close_rings()
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
                ring.drop_sent()
            position = position or self._encoder.text()
            framing = ring.selection[1]
            if framing not in frames:
                frames[framing] = frame_record(record, position, framing)
            ring.append(frames[framing], position, len(rings))
        self._budget.enforce()

    def _close_rings(self) -> None:
        """Close the rings: every stream catches up from its own position."""
        rings, self._rings = self._rings, {}
        self._index = FilterIndex()
        for ring in rings.values():
            ring.close()
        wake_waiters(self.waiters)
