"""Capacity of the store: one topic must not take all of it.

Up to seven eighths of the limit every topic may grow; beyond that only those that hold no more than the average; at the limit
none. LMDB's map is larger than the limit by a reserve, so that states, progress and removals can always be written.
"""

from __future__ import annotations

from collections.abc import Iterable

import lmdb

from kafkaproxy.worker.store.quota import held_bytes, total_bytes
from kafkaproxy.worker.store.reader import DATABASES, Store, TopicState

__all__ = ["StoreFull", "crowding_threshold", "is_disk_error", "is_full", "require_capacity", "used_bytes"]


class StoreFull(Exception):
    """The store has no capacity for more of a topic."""


def is_full(error: Exception) -> bool:
    """Return True if a write failed for lack of space: by our limit, in LMDB's map, or on the disk."""
    return isinstance(error, (StoreFull, lmdb.MapFullError)) or is_disk_error(error)


def is_disk_error(error: Exception) -> bool:
    """Return True if the disk refused the write.

    LMDB has a class for each of its own errors, and reports a short write like a failed one, as a plain ``lmdb.Error``.
    """
    return isinstance(error, lmdb.DiskError) or type(error) is lmdb.Error


def require_capacity(txn: lmdb.Transaction, store: Store, growing: Iterable[TopicState], topics: int) -> None:
    """Raise :class:`StoreFull` if one of the topics that grew in this transaction may not grow.

    ``topics``: how many topics the store holds, for the average size.
    """
    used = used_bytes(txn, store)
    if used <= crowding_threshold(store):
        return
    # In a crowded store small topics may still grow, so that one big topic cannot stop the others.
    average = total_bytes(txn, store) / max(topics, 1)
    if used > store.max_bytes or any(held_bytes(txn, store, each.key) > average for each in growing):
        raise StoreFull


def used_bytes(txn: lmdb.Transaction, store: Store) -> int:
    """Return the size of all pages in use, in bytes."""
    pages = 0
    for stat in (txn.stat(store.db(name)) for name in DATABASES):
        pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return pages * int(stat["psize"])


def crowding_threshold(store: Store) -> int:
    """Return the size in bytes from which the store is crowded."""
    return store.max_bytes * 7 // 8
