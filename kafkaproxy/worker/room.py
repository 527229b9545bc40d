"""Room in the store: one topic must not take it all.

Up to seven eighths of the limit every topic may grow; beyond that only those that hold no more than the average; at the limit
none. LMDB's map is larger than the limit by a reserve, so that states, progress and removals find room whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import lmdb

from kafkaproxy.worker.budget import held_bytes, total_bytes
from kafkaproxy.worker.store import DATABASES, Store, TopicState

__all__ = ["FULL", "StoreFull", "crowded_from", "require_room", "used_bytes"]


class StoreFull(Exception):
    """The store has no room for more of a topic."""


FULL: Final = (StoreFull, lmdb.MapFullError, lmdb.DiskError)
"""What writing raises where there is no room: ours, LMDB's (its free pages do not fit), the disk's."""


def require_room(txn: lmdb.Transaction, store: Store, growing: Iterable[TopicState], topics: int) -> None:
    """Raise :class:`StoreFull` where one of these topics may not grow as it did in this transaction."""
    used = used_bytes(txn, store)
    if used <= crowded_from(store):
        return
    average = total_bytes(txn, store) / max(topics, 1)
    if used > store.max_bytes or any(held_bytes(txn, store, each.key) > average for each in growing):
        raise StoreFull


def used_bytes(txn: lmdb.Transaction, store: Store) -> int:
    """Return the bytes of all pages in use."""
    pages = 0
    for stat in (txn.stat(store.db(name)) for name in DATABASES):
        pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return pages * int(stat["psize"])


def crowded_from(store: Store) -> int:
    """Return how many bytes make the store crowded."""
    return store.max_bytes * 7 // 8
