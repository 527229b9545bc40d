"""Enforcing quotas and capacity: which records are evicted, which topics are stopped, and when those are read again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Final

import lmdb

from kafkaproxy.metrics import STORE_BYTES, TOPICS_STOPPED
from kafkaproxy.worker.store.capacity import StoreFull, crowding_threshold, is_disk_error, is_full, used_bytes
from kafkaproxy.worker.store.quota import shrink, total_bytes
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.writer import Batch

__all__ = ["Retention"]

_MIN_FREE_DISK_BYTES: Final = 32 << 20
WriteBatches = Callable[[Mapping[str, Batch], Mapping[str, TopicState]], None]
"""Writes batches by topic in one transaction (a method of the store's writer)."""
_NO_ERRORS: Final[Mapping[str, Exception]] = MappingProxyType({})


class Retention:
    """Applies quotas and capacity. For the threads of the writer; what they share is guarded by ``Reading.mutex``.

    ``heartbeat`` is called between the steps of long work.
    """

    def __init__(self, cluster: str, store: Store, quota: Callable[[str], int], heartbeat: Callable[[], None]) -> None:
        self.stopped: set[str] = set()
        """The topics that are not read because the store has no capacity for them."""
        self._store = store
        self._heartbeat = heartbeat
        self._quota = quota
        """Topic → its quota in bytes."""
        self._max_topic_bytes = store.max_bytes
        """The most bytes that a streamed topic may hold at present, whatever its quota."""
        self._used_bytes_gauge = STORE_BYTES.cell(cluster)
        self._stopped_gauge = TOPICS_STOPPED.cell(cluster)

    def begin(self) -> None:
        """Begin without stopped topics: the settings may have changed since."""
        self.stopped.clear()
        self._stopped_gauge.value = 0

    def mark_stopped(self, name: str) -> None:
        """Take note that a topic was stopped."""
        self.stopped.add(name)
        self._stopped_gauge.value = len(self.stopped)

    def measure(self, topics: int, *, is_crowded: bool = False) -> None:
        """Measure the size of the store, for the decisions until the next call.

        ``topics``: how many topics there are. ``is_crowded``: treat the store as crowded in any case.
        """
        with self._store.env.begin() as txn:
            self._used_bytes_gauge.value = used_bytes(txn, self._store)
            is_crowded |= self._used_bytes_gauge.value > crowding_threshold(self._store)
            # Less than the average share: even if there is only one topic, it has to shrink.
            fair = total_bytes(txn, self._store) * 7 // 8 // max(topics, 1)
            self._max_topic_bytes = fair if is_crowded else self._store.max_bytes

    def shrink(self, state: TopicState) -> bool:
        """Evict some records of a streamed topic that is over its quota; return True if there are more.

        In a crowded store the quota is at most a fair share.
        """
        return shrink(self._store, state, min(self._quota(state.name), self._max_topic_bytes))

    def write(
        self, write: WriteBatches, batches: Mapping[str, Batch], states: Mapping[str, TopicState]
    ) -> Mapping[str, Exception]:
        """Write the batches of a step; return topic → error for those that could not be written. The others are written."""
        try:
            write(batches, states)
        except (StoreFull, lmdb.Error) as error:
            if not is_full(error):
                raise
            outcomes = {name: self._write_one(write, name, batch, states) for name, batch in batches.items()}
            return {name: reason for name, reason in outcomes.items() if reason is not None}
        return _NO_ERRORS

    def _write_one(self, write: WriteBatches, name: str, batch: Batch, states: Mapping[str, TopicState]) -> Exception | None:
        """Write as much of a topic's batch as fits; return the error that prevented the rest, if any."""
        try:
            write({name: batch}, states)
        except (StoreFull, lmdb.Error) as error:
            if is_disk_error(error):  # leave what is left of the disk to the other topics
                return error
            if not is_full(error):
                raise
            if self._free_space(states.values()):
                return self._write_one(write, name, batch, states)
            if len(batch.records) <= 1:
                return error
            first, second = batch.halves()
            return self._write_one(write, name, first, states) or self._write_one(write, name, second, states)
        return None

    def _free_space(self, states: Collection[TopicState]) -> bool:
        """Evict everything that may be evicted; return True if that freed any bytes."""
        self.measure(len(states), is_crowded=True)
        before = self._used_bytes_gauge.value
        for state in states:
            while self.shrink(state):
                self._heartbeat()  # it may take long, and a writer without a heartbeat is replaced
        self.measure(len(states))
        return self._used_bytes_gauge.value < before

    def next_to_resume(self, known: Collection[str]) -> str | None:
        """Return a stopped topic that may be read again, None if there is none.

        It is one at a time, since each of them grows, and only when a quarter of the store's limit is free and the disk is not
        full: with the first free byte the topic would stop again at once.
        """
        self.stopped.intersection_update(known)
        resumed = self.stopped.pop() if self.stopped and self._has_space() else None
        self._stopped_gauge.value = len(self.stopped)
        return resumed

    def _has_space(self) -> bool:
        return (
            self._used_bytes_gauge.value < self._store.max_bytes * 3 // 4
            and shutil.disk_usage(self._store.path).free >= _MIN_FREE_DISK_BYTES
        )
