"""Catch-up: how a stream gets from its position to the live end of its topic, without gap or duplicate.

A position is the next offset of each partition. The reader reads pages from the store, and from Kafka what the store no longer
has. When its position is exactly that of the live end, the stream subscribes to the broadcast ring there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from kafkaproxy.core.eventids import make_event_id
from kafkaproxy.core.progress import Encoder
from kafkaproxy.core.sse import gap_frame
from kafkaproxy.streaming.broadcast import Selection, frame_record
from kafkaproxy.streaming.page_cache import FramePage
from kafkaproxy.streaming.tail import StreamTail
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.filters import passes
from kafkaproxy.worker.notify.hub import round_robin
from kafkaproxy.worker.store.reader import Progress
from kafkaproxy.worker.types import Record

__all__ = ["CatchUpReader"]

_RECORDS_PER_STEP: Final = 500
_BYTES_PER_STEP: Final = 1 << 18
_RETRY_SECONDS: Final = 0.5


class CatchUpReader:
    """The position of one stream, and reading on from it. ``selection`` decides which frames the stream gets."""

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
        self.sent_position = self.position
        """The encoded progress in the event id of the last frames."""

    def move(self, position: Mapping[int, int]) -> None:
        """Continue at another position."""
        self._position = dict(position)
        self._encoder = Encoder(position)

    def enter(self, tail: StreamTail) -> None:
        """Start to follow the tail. If the topic was re-created meanwhile, the position is not valid for it."""
        if self._topic_id == tail.topic_id:
            self._epoch = tail.epoch

    @property
    def position(self) -> str:
        """The encoded position."""
        return self._encoder.text()

    def at(self, tail: StreamTail) -> bool:
        """True if the position is exactly that of the live end."""
        return self._epoch is tail.epoch and self._position == tail.positions

    async def read(self, tail: StreamTail) -> bytes | None:
        """Read on towards the live end; return the frames, which may be empty, or None if nothing can be read now.

        Call :meth:`at` afterwards before awaiting anything: the live end moves on while the caller waits.
        """
        if self._epoch is not tail.epoch:
            return self._begin_anew(tail)
        for partition in round_robin(tail.positions, self._last):
            target = tail.positions[partition]
            if self._position.get(partition, -1) < target:
                frames = await self._read_partition(tail, partition, target)
                if frames is not None:
                    return frames
        return None

    async def _read_partition(self, tail: StreamTail, partition: int, target: int) -> bytes | None:
        self._last = partition
        progress = self._progress(partition)
        if progress is None:  # the store has no data of it: it will be read anew, or not at all
            return None
        if (gap := self._skip_lost(partition, progress.log_start)) is not None:
            return gap
        if self._position[partition] >= progress.next_offset:  # the store reads it anew, and has not come this far yet
            return None
        key = (self.selection, partition, target, self.position)
        page = tail.pages.get(key)
        if page is None:
            if self._position[partition] < progress.complete_from:
                end = min(progress.complete_from, target)
                page = await tail.pages.shared(key, lambda: self._from_kafka(partition, end))
            elif (page := self._from_store(partition, target)) is not None:
                tail.pages.put(key, page)
        if page is None or self._epoch is not tail.epoch:
            return b""
        if page.reached < 0:
            return await self._skip_removed_from_kafka(partition)
        self._set(partition, page.reached)
        self.sent_position = page.position or self.sent_position
        return page.frames

    def _begin_anew(self, tail: StreamTail) -> bytes | None:
        """Start at the beginning of the new log, after a new epoch; return a gap frame for what the old log still had."""
        starts = {partition: each.log_start for partition, each in self._cluster.store.progress(tail.topic_id).items()}
        if not starts:  # the new log is not being read yet
            return None
        lost = [
            {"partition": partition, "from": offset, "to": starts.get(partition, 0)}
            for partition, offset in self._position.items()
        ]
        self._epoch, self._topic_id = tail.epoch, tail.topic_id
        self.move(starts)
        return self._gap(lost)

    def _skip_lost(self, partition: int, log_start: int) -> bytes | None:
        """Skip records that retention has removed, and return a gap frame for them; start a partition that is new."""
        position = self._position.get(partition)
        if position is not None and position >= log_start:
            return None
        self._set(partition, log_start)
        return None if position is None else self._gap([{"partition": partition, "from": position, "to": log_start}])

    async def _skip_removed_from_kafka(self, partition: int) -> bytes:
        """Skip records that Kafka has removed, when the store does not know its new log start yet; return the gap frame."""
        earliest = await self._cluster.offsets.ask(self._topic, partition + 1, "earliest")
        gap = self._skip_lost(partition, earliest[partition])
        if gap is None:
            # The log was truncated to before this position: wait until the store's writer notices, or the log has grown.
            self._cluster.poll_metadata()
            await asyncio.sleep(_RETRY_SECONDS)
        return gap or b""

    def _gap(self, lost: list[dict[str, Any]]) -> bytes:
        self.sent_position = self.position
        return gap_frame(make_event_id(self.sent_position, None, None, keyed=self.selection[1].keyed), {"lost": lost})

    def _from_store(self, partition: int, target: int) -> FramePage | None:
        """Read a page from the store; None if the store has dropped records of it, or started to read them anew."""
        start = self._position[partition]
        read = self._cluster.store.read_log(self._topic_id, partition, start, target, _RECORDS_PER_STEP, _BYTES_PER_STEP)
        return None if read is None else self._page(*read)

    async def _from_kafka(self, partition: int, end: int) -> FramePage:
        """Read a page from Kafka; ``reached`` is -1 if Kafka no longer has it."""
        batch = await self._cluster.history.read(self._topic, partition, self._position[partition], end)
        return FramePage(b"", -1, "") if batch is None else self._page(*batch)

    def _page(self, records: list[Record], reached: int) -> FramePage:
        filters, framing = self.selection
        encoder = self._encoder.copy()
        frames: list[bytes] = []
        position = ""
        for record in records:
            encoder.set(record.partition, record.offset + 1)
            if passes(filters, record):
                position = encoder.text()
                frames.append(frame_record(record, position, framing))
        return FramePage(b"".join(frames), reached, position)

    def _progress(self, partition: int) -> Progress | None:
        return self._cluster.store.progress(self._topic_id).get(partition)

    def _set(self, partition: int, offset: int) -> None:
        self._position[partition] = offset
        self._encoder.set(partition, offset)
