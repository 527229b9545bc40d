"""The byte quota of a streamed topic: the store keeps the newest part of its log and evicts the rest; older cursors read Kafka.

What a fetch route serves is never removed: of a topic that is fetched as well, only superseded records are evicted, and a topic
of which every record counts (fetched and not compacted, or a reply topic) keeps all of them.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final

import lmdb

from kafkaproxy.worker.store import codec
from kafkaproxy.worker.store.reader import Progress, Store, TopicState, read_progress
from kafkaproxy.worker.types import Role

__all__ = ["add_bytes", "forget_bytes", "held_bytes", "reclassify_bytes", "shrink", "total_bytes"]

_BYTES: Final = struct.Struct(">QQ")
_PREFIX: Final = b"bytes:"
_PER_STEP: Final = 2000
_TARGET_FRACTION: Final = 0.9


def add_bytes(txn: lmdb.Transaction, store: Store, topic_id: bytes, log: int, kept: int = 0) -> None:
    """Add to a topic's byte counts; removed bytes are negative.

    ``log``: bytes of its log. ``kept``: bytes of live records in the evicted part.
    """
    held = _held(txn, store, topic_id)
    txn.put(_row(topic_id), _BYTES.pack(max(held[0] + log, 0), max(held[1] + kept, 0)), db=store.db("meta"))


def forget_bytes(txn: lmdb.Transaction, store: Store, topic_id: bytes) -> None:
    """Remove the byte counts of a topic whose data is dropped."""
    txn.delete(_row(topic_id), db=store.db("meta"))


def reclassify_bytes(txn: lmdb.Transaction, store: Store, state: TopicState) -> None:
    """Count all bytes of a topic as its log if it keeps every record, else all as live records of the evicted part."""
    held = sum(_held(txn, store, state.key))
    counts = (held, 0) if state.keeps_all else (0, held)
    txn.put(_row(state.key), _BYTES.pack(*counts), db=store.db("meta"))


def held_bytes(txn: lmdb.Transaction, store: Store, topic_id: bytes) -> int:
    """Return the size of a topic's records in bytes, without their store keys and indexes."""
    return sum(_held(txn, store, topic_id))


def total_bytes(txn: lmdb.Transaction, store: Store) -> int:
    """Return the size of all topics' records in bytes."""
    total = 0
    cursor = txn.cursor(db=store.db("meta"))
    if cursor.set_range(_PREFIX):
        for key, value in cursor:
            if key[: len(_PREFIX)] != _PREFIX:
                break
            total += sum(_BYTES.unpack(value))
    return total


def shrink(store: Store, state: TopicState, quota: int) -> bool:
    """Evict some of the oldest records of a topic that is over its quota (bytes); return True if it should be called again.

    It goes down to nine tenths of the quota, so that it does not run for every new record.
    """
    if Role.STREAM not in state.roles or state.keeps_all:
        return False
    with store.env.begin(write=True) as txn:
        excess = _held(txn, store, state.key)[0] - quota
        if excess <= 0:
            return False
        return _remove_oldest(txn, store, state, excess + int(quota * (1 - _TARGET_FRACTION)))


def _remove_oldest(txn: lmdb.Transaction, store: Store, state: TopicState, excess: int) -> bool:
    progress = read_progress(txn, store.db("progress"), state.key)
    found_heads = ((_head(txn, store, state, partition, each), partition) for partition, each in progress.items())
    heads = [(head, partition) for head, partition in found_heads if head is not None]
    if not heads:
        return False
    # Evict from the partition with the oldest record, so that the store keeps about the same time of each partition.
    partition = min(heads)[1]
    removed = kept = 0
    reached = progress[partition].complete_from
    for _ in range(_PER_STEP):
        found = _first(txn, store, state, partition, reached)
        if found is None or removed >= excess:
            break
        offset, data = found
        removed += len(data)
        reached = offset + 1
        if Role.FETCH in state.indexed and store.is_live(txn, state, partition, offset, data):
            kept += len(data)
        else:
            txn.delete(codec.position_key(state.key, partition, offset), db=store.db("records"))
    add_bytes(txn, store, state.key, -removed, kept)
    # In the transaction of the removal: a stream must never take the rest for the complete log.
    moved = replace(progress[partition], complete_from=reached)
    txn.put(state.key + codec.PARTITION.pack(partition), moved.pack(), db=store.db("progress"))
    return removed < excess


def _head(txn: lmdb.Transaction, store: Store, state: TopicState, partition: int, progress: Progress) -> int | None:
    """Return the timestamp of the oldest record that counts against the quota; None if there is none."""
    found = _first(txn, store, state, partition, progress.complete_from)
    return None if found is None else codec.decode_key(found[1])[1]


def _first(txn: lmdb.Transaction, store: Store, state: TopicState, partition: int, offset: int) -> tuple[int, bytes] | None:
    cursor = txn.cursor(db=store.db("records"))
    prefix = state.key + codec.PARTITION.pack(partition)
    if not cursor.set_range(codec.position_key(state.key, partition, offset)) or cursor.key()[: len(prefix)] != prefix:
        return None
    return codec.position(cursor.key())[1], bytes(cursor.value())


def _held(txn: lmdb.Transaction, store: Store, topic_id: bytes) -> tuple[int, int]:
    row = txn.get(_row(topic_id), db=store.db("meta"))
    return (0, 0) if row is None else _BYTES.unpack(row)


def _row(topic_id: bytes) -> bytes:
    return _PREFIX + topic_id
