"""A stream's place in its topic: where it begins, and how it catches up with the live end without gap or duplicate.

A cursor is a vector of next offsets. While it is behind the tail it reads the store in batches, older records Kafka itself;
when it has reached exactly the tail's vector it joins the tail's ring of frames.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kafkaproxy.core.eventids import make_event_id
from kafkaproxy.core.progress import Encoder
from kafkaproxy.core.sse import gap_frame, id_frame
from kafkaproxy.routing.table import Route
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.filters import RecordFilter, passes
from kafkaproxy.worker.store import Progress, TopicState
from kafkaproxy.worker.tail import Framing, StreamTail, frame_of
from kafkaproxy.worker.types import Record

__all__ = ["Cursor", "Start", "resolve_start"]

_PER_STEP: Final = 500
_BYTES_PER_STEP: Final = 1 << 20


@dataclass(slots=True)
class Start:
    """Where a stream begins, fixed before the response does."""

    position: dict[int, int]
    lost: list[dict[str, Any]] = field(default_factory=list)
    """What the client missed for good: partition, and the offsets from which and before which."""


async def resolve_start(
    cluster: ClusterWorker, topic: str, state: TopicState, route: Route, resumed: Mapping[int, int] | None
) -> Start:
    """Fix the position: after what the client saw last, or where the route starts new streams."""
    ask = cluster.offsets.ask
    earliest = await ask(topic, state.partitions, "earliest")
    latest = await ask(topic, state.partitions, "latest")
    if resumed is not None:
        return _resume(resumed, earliest, latest)
    match route.start:
        case "latest":
            return Start(latest)
        case "timestamp":
            since = await ask(topic, state.partitions, route.start_timestamp or 0)
            return Start({partition: offset if offset >= 0 else latest[partition] for partition, offset in since.items()})
        case _:
            return Start(earliest)


def _resume(resumed: Mapping[int, int], earliest: Mapping[int, int], latest: Mapping[int, int]) -> Start:
    """Go on from the client's position. What is outside of the log was lost (D23), and never passed over in silence."""
    start = Start({})
    for partition, first in earliest.items():
        offset = resumed.get(partition, first)  # a partition that the id does not know is younger than the id
        if 0 <= offset < first or offset > latest[partition]:
            start.lost.append({"partition": partition, "from": offset, "to": first})
        start.position[partition] = offset if first <= offset <= latest[partition] else first
    start.lost += [{"partition": each, "from": resumed[each], "to": 0} for each in resumed if each not in earliest]
    return start


class Cursor:
    """One stream's place, while it is not at the tail."""

    def __init__(
        self,
        cluster: ClusterWorker,
        topic: str,
        topic_id: bytes,
        start: Start,
        filters: tuple[RecordFilter, ...],
        framing: Framing,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._filters = filters
        self._framing = framing
        self.topic_id = topic_id
        self.move(start.position)

    @property
    def view(self) -> tuple[tuple[RecordFilter, ...], Framing]:
        """What decides which frames the stream gets: its filters and its framing."""
        return self._filters, self._framing

    @property
    def keyed(self) -> bool:
        """Whether ids carry the key."""
        return self._framing.keyed

    def move(self, position: Mapping[int, int]) -> None:
        """Go to a position."""
        self._position = dict(position)
        self._encoder = Encoder(position)

    @property
    def event_id(self) -> str:
        """The id of the present position, as of a record without key and etag."""
        return make_event_id(self._encoder.text(), None, None, keyed=self._framing.keyed)

    def begin(self, lost: list[dict[str, Any]]) -> bytes:
        """Return the first event: an id without data, so that even an immediate drop resumes exactly; or a gap."""
        return gap_frame(self.event_id, {"lost": lost}) if lost else id_frame(self.event_id)

    def at(self, tail: StreamTail) -> bool:
        """Whether this is exactly where the tail is."""
        return self.topic_id == tail.topic_id and self._position == tail.positions

    async def catch_up(self, tail: StreamTail) -> AsyncIterator[bytes]:
        """Yield frames up to where the tail is now. After the last one, look with :meth:`at` before anything is awaited."""
        if self.topic_id != tail.topic_id:
            yield self._recreated(tail)
        known = self._cluster.store.progress(self.topic_id)
        for partition, target in sorted(tail.positions.items()):
            progress = known.get(partition)
            if progress is None:
                continue
            if (gap := self._skip_lost(partition, progress)) is not None:
                yield gap
            if self._position[partition] < min(progress.complete_from, target):
                async for frames in self._from_kafka(partition, min(progress.complete_from, target)):
                    yield frames
            while self._position[partition] < target:
                if (stored := self._from_store(partition, target)) is not None:
                    yield stored

    def _recreated(self, tail: StreamTail) -> bytes:
        """The topic was deleted and made anew: all of the new one is read, and what the old one still had is lost."""
        lost = [{"partition": partition, "from": offset, "to": 0} for partition, offset in self._position.items()]
        self.topic_id = tail.topic_id
        self.move({p: each.log_start for p, each in self._cluster.store.progress(tail.topic_id).items()})
        return gap_frame(self.event_id, {"lost": lost, "reason": "recreated"})

    def _skip_lost(self, partition: int, progress: Progress) -> bytes | None:
        """Pass over what retention ate while this cursor lagged, and say so."""
        position = self._position.setdefault(partition, progress.log_start)
        if position >= progress.log_start:
            return None
        self._set(partition, progress.log_start)
        lost = [{"partition": partition, "from": position, "to": progress.log_start}]
        return gap_frame(self.event_id, {"lost": lost})

    def _from_store(self, partition: int, target: int) -> bytes | None:
        store, position = self._cluster.store, self._position[partition]
        records, reached = store.read(self.topic_id, partition, position, target, _PER_STEP, _BYTES_PER_STEP)
        frames = self._frames(records)
        self._set(partition, reached)
        return frames

    async def _from_kafka(self, partition: int, target: int) -> AsyncIterator[bytes]:
        history = self._cluster.history.read(self._topic, partition, self._position[partition], target)
        async for records, reached in history:
            frames = self._frames(records)
            self._set(partition, reached)
            if frames is not None:
                yield frames

    def _frames(self, records: list[Record]) -> bytes | None:
        frames: list[bytes] = []
        for record in records:
            self._set(record.partition, record.offset + 1)
            if passes(self._filters, record):
                frames.append(frame_of(record, self._encoder.text(), self._framing)[0])
        return b"".join(frames) or None

    def _set(self, partition: int, offset: int) -> None:
        self._position[partition] = offset
        self._encoder.set(partition, offset)
