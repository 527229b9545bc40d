"""A stream's place in its topic while it is not at the live end: how it gets there without gap or duplicate.

A cursor is a vector of next offsets. It reads the store in pages, older records from Kafka itself; when it has reached exactly
the tail's vector, the stream takes a place in the tail's ring of frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from kafkaproxy.core.eventids import make_event_id
from kafkaproxy.core.progress import Encoder
from kafkaproxy.core.sse import gap_frame
from kafkaproxy.streaming.broadcast import Selection, frame_of
from kafkaproxy.streaming.pages import Page
from kafkaproxy.streaming.tail import StreamTail
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.filters import passes
from kafkaproxy.worker.notify.hub import in_turn
from kafkaproxy.worker.store.reader import Progress
from kafkaproxy.worker.types import Record

__all__ = ["Cursor"]

_PER_STEP: Final = 200
_BYTES_PER_STEP: Final = 1 << 18
_AGAIN_SECONDS: Final = 0.5


class Cursor:
    """One stream's place. ``selection`` decides which frames it gets."""

    def __init__(
        self, cluster: ClusterWorker, topic: str, topic_id: bytes, position: Mapping[int, int], selection: Selection
    ) -> None:
        self.selection = selection
        self._cluster = cluster
        self._topic = topic
        self._topic_id = topic_id
        self._epoch: object = None
        self._last = -1
        self.move(position)
        self.told = self.position
        """The progress that the last frames say."""

    def move(self, position: Mapping[int, int]) -> None:
        """Go to a position."""
        self._position = dict(position)
        self._encoder = Encoder(position)

    def enter(self, tail: StreamTail) -> None:
        """Begin to follow: if it is still the same topic, the position counts."""
        if self._topic_id == tail.topic_id:
            self._epoch = tail.epoch

    @property
    def position(self) -> str:
        """The encoded progress."""
        return self._encoder.text()

    def at(self, tail: StreamTail) -> bool:
        """Whether this is exactly where the tail is."""
        return self._epoch is tail.epoch and self._position == tail.positions

    async def read(self, tail: StreamTail) -> bytes | None:
        """Return frames on the way to the tail, perhaps none; None where nothing is to be read at the moment.

        After it, look with :meth:`at` before anything is awaited.
        """
        if self._epoch is not tail.epoch:
            return self._begin_anew(tail)
        for partition in in_turn(tail.positions, self._last):
            target = tail.positions[partition]
            if self._position.get(partition, -1) < target:
                frames = await self._read_partition(tail, partition, target)
                if frames is not None:
                    return frames
        return None

    async def _read_partition(self, tail: StreamTail, partition: int, target: int) -> bytes | None:
        self._last = partition
        progress = self._progress(partition)
        if progress is None:  # its data is about to be read anew, or not at all
            return None
        if (gap := self._pass_lost(partition, progress.log_start)) is not None:
            return gap
        if self._position[partition] >= progress.next_offset:  # it is being read anew, and has yet to come this far
            return None
        key = (self.selection, partition, target, self.position)
        page = tail.pages.get(key)
        if page is None:
            if self._position[partition] < progress.complete_from:
                end = min(progress.complete_from, target)
                page = await tail.pages.shared(key, lambda: self._from_kafka(partition, end))
            elif (page := self._from_store(partition, target)) is not None:
                tail.pages.keep(key, page)
        if page is None or self._epoch is not tail.epoch:
            return b""
        if page.reached < 0:
            return await self._ask_what_is_lost(partition)
        self._set(partition, page.reached)
        self.told = page.position or self.told
        return page.frames

    def _begin_anew(self, tail: StreamTail) -> bytes | None:
        """Offsets lost their meaning: all of the new log is read, and what the old one still had is lost."""
        starts = {partition: each.log_start for partition, each in self._cluster.store.progress(tail.topic_id).items()}
        if not starts:  # it is not being read yet
            return None
        lost = [
            {"partition": partition, "from": offset, "to": starts.get(partition, 0)}
            for partition, offset in self._position.items()
        ]
        self._epoch, self._topic_id = tail.epoch, tail.topic_id
        self.move(starts)
        return self._gap(lost)

    def _pass_lost(self, partition: int, log_start: int) -> bytes | None:
        """Pass over what retention ate while this cursor lagged, and say so; begin a partition that is new."""
        position = self._position.get(partition)
        if position is not None and position >= log_start:
            return None
        self._set(partition, log_start)
        return None if position is None else self._gap([{"partition": partition, "from": position, "to": log_start}])

    async def _ask_what_is_lost(self, partition: int) -> bytes:
        """Kafka no longer has what the store no longer has; the store will learn that later."""
        earliest = await self._cluster.offsets.ask(self._topic, partition + 1, "earliest")
        gap = self._pass_lost(partition, earliest[partition])
        if gap is None:  # the log ends before: until the writer knows that, or it has grown again, nothing can be read
            self._cluster.look_again()
            await asyncio.sleep(_AGAIN_SECONDS)
        return gap or b""

    def _gap(self, lost: list[dict[str, Any]]) -> bytes:
        self.told = self.position
        return gap_frame(make_event_id(self.told, None, None, keyed=self.selection[1].keyed), {"lost": lost})

    def _from_store(self, partition: int, target: int) -> Page | None:
        """Read a page; None where the store let go of records of it meanwhile, or began to read them anew."""
        start = self._position[partition]
        read = self._cluster.store.read_log(self._topic_id, partition, start, target, _PER_STEP, _BYTES_PER_STEP)
        return None if read is None else self._page(*read)

    async def _from_kafka(self, partition: int, end: int) -> Page:
        """Read a page; an offset of -1 says that Kafka no longer has it either."""
        batch = await self._cluster.history.read(self._topic, partition, self._position[partition], end)
        return Page(b"", -1, "") if batch is None else self._page(*batch)

    def _page(self, records: list[Record], reached: int) -> Page:
        filters, framing = self.selection
        encoder = self._encoder.copy()
        frames: list[bytes] = []
        position = ""
        for record in records:
            encoder.set(record.partition, record.offset + 1)
            if passes(filters, record):
                position = encoder.text()
                frames.append(frame_of(record, position, framing))
        return Page(b"".join(frames), reached, position)

    def _progress(self, partition: int) -> Progress | None:
        return self._cluster.store.progress(self._topic_id).get(partition)

    def _set(self, partition: int, offset: int) -> None:
        self._position[partition] = offset
        self._encoder.set(partition, offset)
