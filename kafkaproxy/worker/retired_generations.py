"""Closing former generations of the store, in the background."""

from __future__ import annotations

import gc
import time
import weakref
from threading import Thread
from typing import Final

from kafkaproxy.worker.ingest.coordinator import Ingest
from kafkaproxy.worker.store.reader import Store

__all__ = ["RetiredGenerations"]

_INGEST_SECONDS: Final = 15.0
"""How long closing waits for an ingest, which may be in the middle of a transaction."""
_COLLECT_SECONDS: Final = 1.0
_COLLECTIONS: Final = 30
"""How often the garbage is collected at the most, a second apart, until a former generation is released."""


class RetiredGenerations:
    """The generations that a cluster's worker has left, with the ingests that wrote to them."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._closing: list[Thread] = []

    def close_later(self, store: Store, ingest: Ingest | None) -> None:
        """Close a generation in a thread of its own: its writer may be frozen, and requests may still read from it."""
        # A list, which the thread empties: its arguments would otherwise keep the store alive until the thread has ended.
        retired = [(store, ingest)]
        thread = Thread(target=_close, args=(retired,), name=f"kafkaproxy-close-{self._cluster}", daemon=True)
        thread.start()
        self._closing = [*(each for each in self._closing if each.is_alive()), thread]

    def join(self, seconds: float) -> None:
        """Wait up to ``seconds`` for each generation that is being closed."""
        for thread in self._closing:
            thread.join(timeout=seconds)


def _close(retired: list[tuple[Store, Ingest | None]]) -> None:
    store, ingest = retired.pop()
    if ingest is not None:
        ingest.close(_INGEST_SECONDS)
    store.close(may_be_in_use=True)
    # An ingest refers to itself, and a thread of it may end later, such as a metadata poll that waits for Kafka. Until all of
    # them are collected, the store stays open and takes space on the disk.
    left = weakref.ref(store)
    del store, ingest
    for _ in range(_COLLECTIONS):
        gc.collect()
        if left() is None:
            return
        time.sleep(_COLLECT_SECONDS)
