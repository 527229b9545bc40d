"""Data of topics that are no longer read: it is dropped in small steps, so that records are written in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from kafkaproxy.worker.store.writer import StoreWriter

__all__ = ["Garbage"]


class Garbage:
    """The store keys of topics whose data is to be dropped. For the coordinator's thread."""

    def __init__(self, writer: StoreWriter, keys: Iterable[bytes] = ()) -> None:
        self._writer = writer
        self._keys = deque(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, keys: Iterable[bytes]) -> None:
        """Drop the data of these keys later."""
        self._keys.extend(keys)

    def discard(self, key: bytes) -> None:
        """Do not drop the data of this key later: a topic is about to be read under it."""
        self._keys = deque(each for each in self._keys if each != key)

    def clear(self) -> None:
        """Drop nothing later: the whole store was emptied."""
        self._keys.clear()

    def drop_step(self) -> None:
        """Drop one step, in one short transaction."""
        if self._keys and not self._writer.drop_step(self._keys[0]):
            self._keys.popleft()
