"""Writing to the store: records and the progress they bring, in one transaction."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import lmdb

from kafkaproxy.worker import codec
from kafkaproxy.worker.budget import add_bytes, forget_bytes
from kafkaproxy.worker.lock import WriterLock
from kafkaproxy.worker.room import require_room
from kafkaproxy.worker.store import Progress, Store, TopicState, latest_offset, pack_latest, pack_reply, read_progress
from kafkaproxy.worker.types import Record, Role

__all__ = ["Batch", "StoreWriter", "doubt"]

_BYTES_PER_STEP: Final = 16 << 20
"""About how much of a log is removed in one transaction, and held in memory for it."""


@dataclass(slots=True)
class Batch:
    """What one poll brought of a topic: records in order, and partitions that were read up to an offset without one."""

    records: list[Record]
    reached: dict[int, int]
    """Partition → next offset; control records and the end of the log move it though there is no record."""

    def halves(self) -> tuple[Batch, Batch]:
        """Split it; only after the second half are partitions read up to where they are."""
        middle = len(self.records) // 2
        return Batch(self.records[:middle], {}), Batch(self.records[middle:], self.reached)


class StoreWriter:
    """The one writer of a store. Every method is one transaction: whoever reads sees all of it or nothing."""

    def __init__(self, store: Store, correlation_headers: frozenset[str]) -> None:
        self.correlation_headers = correlation_headers
        """The reply headers whose values are indexed."""
        self._store = store
        self._env = store.env
        self._stamp = itertools.count(1)
        self._session = b""
        self._unlooked = 0
        """How much was written since somebody looked whether there is room."""

    def begin(self, session: bytes) -> dict[str, TopicState]:
        """Take over: topics are not ready until this session has read them to their ends."""
        self._session = session
        with self._env.begin(write=True) as txn:
            states: dict[str, TopicState] = {}
            for key, value in txn.cursor(db=self._store.db("topics")):
                states[key.decode()] = replace(TopicState.load(value), ready=False, error="")
            for state in states.values():
                self._put_state(txn, state)
        return states

    def beat(self, servers: str) -> None:
        """Write a heartbeat. That it arrives in the store shows that the writer runs and that the store can be written."""
        with self._env.begin(write=True, db=self._store.db("meta")) as txn:
            txn.put(b"heartbeat", json.dumps({"time": time.time(), "servers": servers}).encode())
            self._store.keep_ahead()

    def adopt(self, cluster_id: str) -> bool:
        """Note whose data this is; where it is another cluster's, drop it and return True."""
        meta = self._store.db("meta")
        with self._env.begin(db=meta) as txn:
            known = txn.get(b"cluster_id")
        if known == cluster_id.encode():
            return False
        with self._env.begin(write=True) as txn:
            txn.put(b"cluster_id", cluster_id.encode(), db=meta)
            if known is None:
                return False
            for _, row in txn.cursor(db=self._store.db("topics")):
                forget_bytes(txn, self._store, TopicState.load(row).key)
            for name in ("records", "latest", "replies", "progress", "topics"):
                txn.drop(self._store.db(name), delete=False)
            self._touch(txn)
        return True

    def sweep(self, states: Iterable[TopicState]) -> None:
        """Drop what belongs to none of these topics: what is left of a topic whose writer died while it dropped it."""
        known = {state.key for state in states}
        for topic_id in set(self._topic_ids()) - known:
            self.drop_data(topic_id)

    def _topic_ids(self) -> Iterator[bytes]:
        with self._env.begin() as txn:
            for name in ("progress", "replies", "latest", "records"):
                cursor = txn.cursor(db=self._store.db(name))
                found = cursor.first()
                while found:
                    topic_id = cursor.key()[: codec.ID_BYTES]
                    yield topic_id
                    found = cursor.set_range(topic_id + b"\xff" * 8)  # after every key of the topic

    def put_states(self, states: Iterable[TopicState]) -> None:
        """Store what is known of topics."""
        with self._env.begin(write=True) as txn:
            for state in states:
                self._put_state(txn, state)

    def forget(self, states: Iterable[TopicState]) -> None:
        """Drop topics; let readers know before their data is dropped (:meth:`drop_data`), so that nobody reads half of it."""
        with self._env.begin(write=True) as txn:
            for state in states:
                txn.delete(state.name.encode(), db=self._store.db("topics"))
            self._touch(txn)

    def forget_wanted(self, names: Iterable[str]) -> None:
        """Drop the requests for topics that nobody used for long."""
        with self._env.begin(write=True, db=self._store.db("wanted")) as txn:
            for name in names:
                txn.delete(name.encode())

    def drop_data(self, topic_id: bytes) -> None:
        """Drop the records, indexes and progress of a topic id, in bounded transactions."""
        if not topic_id:
            return
        for name in ("progress", "replies", "latest", "records"):
            while self._delete_some(name, topic_id):
                pass
        with self._env.begin(write=True) as txn:
            forget_bytes(txn, self._store, topic_id)

    def _delete_some(self, name: str, prefix: bytes, limit: int = 10_000) -> bool:
        with self._env.begin(write=True, db=self._store.db(name)) as txn:
            cursor = txn.cursor()
            if not cursor.set_range(prefix):
                return False
            for _ in range(limit):
                if cursor.key()[: len(prefix)] != prefix:
                    return False
                if not cursor.delete():  # deletes and moves on; False at the end of the database
                    return False
        return True

    def start(self, state: TopicState, starts: Mapping[int, int], log_starts: Mapping[int, int]) -> None:
        """Store the state and the first progress of partitions that have none yet."""
        with self._env.begin(write=True) as txn:
            self._put_state(txn, state)
            for partition, offset in starts.items():
                progress = Progress(offset, log_starts.get(partition, offset), offset)
                self._put_progress(txn, state.key, partition, progress)

    def apply(self, batches: Mapping[str, Batch], states: Mapping[str, TopicState]) -> None:
        """Write what a poll brought; without room for it, raise (:func:`kafkaproxy.worker.room.is_full`) and write nothing."""
        with self._env.begin(write=True) as txn:
            size = sum(self._apply(txn, states[name], batch) for name, batch in batches.items())
            if self._unlooked + size >= min(self._store.max_bytes // 64, _BYTES_PER_STEP):
                require_room(txn, self._store, [states[name] for name in batches], len(states))
                size = -self._unlooked
        self._unlooked += size

    def _apply(self, txn: lmdb.Transaction, state: TopicState, batch: Batch) -> int:
        """Write a batch; return its size."""
        progress = read_progress(txn, self._store.db("progress"), state.key)
        reached = dict(batch.reached)
        size = self._put_records(txn, state, batch.records)
        for record in batch.records:
            if record.offset >= reached.get(record.partition, 0):
                reached[record.partition] = record.offset + 1
        if Role.REPLY in state.roles:
            self._index_replies(txn, state, batch.records)
        drops = state.compacted and state.roles == {Role.FETCH}
        kept = 0
        if Role.FETCH in state.roles:
            superseded = self._index_latest(txn, state, batch.records)
            if drops:
                size -= self._drop(txn, state, superseded)
            elif state.compacted and Role.REPLY not in state.roles:
                # Of the part of the log that was let go, only the live records were kept.
                kept = self._drop(txn, state, (at for at in superseded if _is_let_go(progress, *at)))
        add_bytes(txn, self._store, state.key, size, -kept)
        for partition, offset in reached.items():
            old = progress.get(partition) or Progress(0, 0, 0)
            if offset > old.next_offset:
                complete = offset if drops else old.complete_from
                self._put_progress(txn, state.key, partition, Progress(offset, old.log_start, complete))
        return size

    def _drop(self, txn: lmdb.Transaction, state: TopicState, positions: Iterable[tuple[int, int]]) -> int:
        """Remove records that are indexed no longer; return their size."""
        records = self._store.db("records")
        return sum(len(txn.pop(codec.position_key(state.key, *at), db=records) or b"") for at in positions)

    def _put_records(self, txn: lmdb.Transaction, state: TopicState, records: Sequence[Record]) -> int:
        items = [(codec.position_key(state.key, each.partition, each.offset), _encode(each)) for each in records]
        txn.cursor(db=self._store.db("records")).putmulti(items)
        return sum(len(data) for _, data in items)

    def _index_latest(self, txn: lmdb.Transaction, state: TopicState, records: Sequence[Record]) -> list[tuple[int, int]]:
        """Point ``latest`` at the records; return the positions they supersede in their own partition."""
        superseded: list[tuple[int, int]] = []
        db = self._store.db("latest")
        for record in records:
            if record.key is None:
                continue
            at = codec.index_key(state.key, record.key) + codec.PARTITION.pack(record.partition)
            row = pack_latest(record.offset, record.timestamp)
            old = txn.replace(at, row, db=db)
            if old is not None and (offset := latest_offset(old)) != record.offset:
                superseded.append((record.partition, offset))
        return superseded

    def _index_replies(self, txn: lmdb.Transaction, state: TopicState, records: Sequence[Record]) -> None:
        """The first reply with a correlation id counts, whatever comes later."""
        db = self._store.db("replies")
        for record in records:
            for name, value in record.headers:
                if value is not None and name in self.correlation_headers:
                    at = codec.index_key(state.key, value)
                    txn.put(at, pack_reply(record.partition, record.offset), overwrite=False, db=db)

    def trim(self, state: TopicState, partition: int, log_start: int) -> int:
        """Remove what Kafka's log start has passed; return the number of records removed."""
        removed = 0
        while True:
            count, done = self._trim_some(state, partition, log_start)
            removed += count
            if done:
                return removed

    def _trim_some(self, state: TopicState, partition: int, log_start: int, limit: int = 5_000) -> tuple[int, bool]:
        records = self._store.db("records")
        with self._env.begin(write=True) as txn:
            cursor = txn.cursor(db=records)
            prefix = state.key + codec.PARTITION.pack(partition)
            doomed: list[tuple[bytes, bytes]] = []
            size, done = 0, True
            if cursor.set_range(prefix):
                for key, value in cursor:
                    if key[: len(prefix)] != prefix or codec.position(key)[1] >= log_start:
                        break
                    if len(doomed) == limit or size >= _BYTES_PER_STEP:
                        done = False
                        break
                    doomed.append((key, value))
                    size += len(value)
            for key, value in doomed:
                self._remove(txn, state, key, value)
            let_go = self._before_complete(txn, state, partition, doomed)
            add_bytes(txn, self._store, state.key, let_go - size, -let_go)
            # With every step: a stream must not take what is half removed for the whole log.
            reached = log_start if done else codec.position(doomed[-1][0])[1] + 1
            self._move_log_start(txn, state.key, partition, reached)
        return len(doomed), done

    def _before_complete(
        self, txn: lmdb.Transaction, state: TopicState, partition: int, rows: Iterable[tuple[bytes, bytes]]
    ) -> int:
        """Return the size of those rows that were kept of the part of the log that was let go."""
        progress = read_progress(txn, self._store.db("progress"), state.key).get(partition)
        complete_from = progress.complete_from if progress is not None and Role.STREAM in state.roles else 0
        return sum(len(value) for key, value in rows if codec.position(key)[1] < complete_from)

    def _remove(self, txn: lmdb.Transaction, state: TopicState, key: bytes, value: bytes) -> None:
        txn.delete(key, db=self._store.db("records"))
        partition, offset = codec.position(key)
        record = codec.decode_record(partition, offset, value)
        if record.key is not None:
            at = codec.index_key(state.key, record.key) + codec.PARTITION.pack(partition)
            row = txn.get(at, db=self._store.db("latest"))
            if row is not None and latest_offset(row) == offset:
                txn.delete(at, db=self._store.db("latest"))
        for name, content in record.headers:
            if content is not None and name in self.correlation_headers:
                at = codec.index_key(state.key, content)
                if txn.get(at, db=self._store.db("replies")) == pack_reply(partition, offset):
                    txn.delete(at, db=self._store.db("replies"))

    def _move_log_start(self, txn: lmdb.Transaction, topic_id: bytes, partition: int, log_start: int) -> None:
        old = read_progress(txn, self._store.db("progress"), topic_id).get(partition)
        if old is not None and log_start > old.log_start:
            moved = Progress(max(old.next_offset, log_start), log_start, max(old.complete_from, log_start))
            self._put_progress(txn, topic_id, partition, moved)
            self._touch(txn)

    def _put_state(self, txn: lmdb.Transaction, state: TopicState) -> None:
        txn.put(state.name.encode(), state.dump(), db=self._store.db("topics"))
        self._touch(txn)

    def _put_progress(self, txn: lmdb.Transaction, topic_id: bytes, partition: int, progress: Progress) -> None:
        txn.put(topic_id + codec.PARTITION.pack(partition), progress.pack(), db=self._store.db("progress"))

    def _touch(self, txn: lmdb.Transaction) -> None:
        """Move the stamp that readers compare before they read the topics again."""
        stamp = self._session + next(self._stamp).to_bytes(8)
        txn.put(b"topics_version", stamp, db=self._store.db("meta"))


def doubt(store: Store) -> None:
    """Call nothing ready that only a writer who is gone called so: Kafka may have gone on, or be another one."""
    lock = WriterLock(store.path)
    if lock.acquire():
        StoreWriter(store, frozenset()).begin(os.urandom(8))
        lock.release()


def _is_let_go(progress: Mapping[int, Progress], partition: int, offset: int) -> bool:
    known = progress.get(partition)
    return known is not None and offset < known.complete_from


def _encode(record: Record) -> bytes:
    return codec.encode_record(record.timestamp, record.key, record.value, record.headers)
