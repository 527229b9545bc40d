"""Who may have how much of the store: what is let go of, who is stopped, and when they go on."""

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
Write = Callable[[Mapping[str, Batch], Mapping[str, TopicState]], None]
"""Writes batches by topic in one transaction (a method of the store's writer)."""
_NO_ERRORS: Final[Mapping[str, Exception]] = MappingProxyType({})


class Retention:
    """For the writer's thread, which asks about once a second, and when something does not fit."""

    def __init__(self, cluster: str, store: Store, quota: Callable[[str], int]) -> None:
        self.stopped: set[str] = set()
        """The topics that are not read because there is no room for them."""
        self._store = store
        self._quota = quota
        """Topic → what it may hold of its log."""
        self._max_topic_bytes = store.max_bytes
        """What a streamed topic may hold at most, whatever its quota."""
        self._used_bytes_gauge = STORE_BYTES.cell(cluster)
        self._stopped_gauge = TOPICS_STOPPED.cell(cluster)

    def begin(self) -> None:
        """Begin with nobody stopped: the limit may be another one now."""
        self.stopped.clear()
        self._stopped_gauge.value = 0

    def mark_stopped(self, name: str) -> None:
        """Note that a topic is read no longer."""
        self.stopped.add(name)
        self._stopped_gauge.value = len(self.stopped)

    def measure(self, topics: int, *, is_crowded: bool = False) -> None:
        """Look how full the store is; the rest goes by that until the next measure. ``is_crowded``: whatever it looks like."""
        with self._store.env.begin() as txn:
            self._used_bytes_gauge.value = used_bytes(txn, self._store)
            is_crowded |= self._used_bytes_gauge.value > crowding_threshold(self._store)
            # Less than the average: where there is but one topic, something has to go as well.
            fair = total_bytes(txn, self._store) * 7 // 8 // max(topics, 1)
            self._max_topic_bytes = fair if is_crowded else self._store.max_bytes

    def shrink(self, state: TopicState) -> bool:
        """Let go of some of what a streamed topic holds over its quota; return whether there is more of that.

        In a crowded store nobody has more than a fair share.
        """
        return shrink(self._store, state, min(self._quota(state.name), self._max_topic_bytes))

    def write(self, write: Write, batches: Mapping[str, Batch], states: Mapping[str, TopicState]) -> Mapping[str, Exception]:
        """Write what a poll brought; return the topics for which there is no room, and why. The others are written."""
        try:
            write(batches, states)
        except (StoreFull, lmdb.Error) as error:
            if not is_full(error):
                raise
            outcomes = {name: self._write_one(write, name, batch, states) for name, batch in batches.items()}
            return {name: reason for name, reason in outcomes.items() if reason is not None}
        return _NO_ERRORS

    def _write_one(self, write: Write, name: str, batch: Batch, states: Mapping[str, TopicState]) -> Exception | None:
        """Write as much of a topic as there is room for; return what keeps the rest out."""
        try:
            write({name: batch}, states)
        except (StoreFull, lmdb.Error) as error:
            if is_disk_error(error):  # what little there is left is for the others
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
        """Let go of all that can be let go of; return whether that was anything."""
        self.measure(len(states), is_crowded=True)
        before = self._used_bytes_gauge.value
        for state in states:
            while self.shrink(state):
                pass
        self.measure(len(states))
        return self._used_bytes_gauge.value < before

    def next_to_resume(self, known: Collection[str]) -> str | None:
        """Return a topic that was stopped and may be read again, if there is one; one at a time, for each takes some room.

        That is when a quarter of the limit is free, and the disk not full: not with the first free byte.
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
