"""Writing to the store: records, and the progress that counts them, in the same transaction."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import lmdb

from kafkaproxy.worker.store import codec
from kafkaproxy.worker.store.capacity import require_capacity
from kafkaproxy.worker.store.quota import add_bytes, forget_bytes, reclassify_bytes
from kafkaproxy.worker.store.reader import (
    Progress,
    Store,
    TopicState,
    latest_offset,
    pack_latest,
    pack_reply,
    read_progress,
    unpack_reply,
)
from kafkaproxy.worker.store.writer_lock import WriterLock
from kafkaproxy.worker.types import Record, Role

__all__ = ["Batch", "StoreWriter", "reset_stale_readiness"]

_ROWS_PER_STEP: Final = 2_000
_BYTES_PER_STEP: Final = 4 << 20
"""How many bytes of a log are removed in one transaction, and held in memory for it."""


@dataclass(slots=True)
class Batch:
    """The messages of one step of a topic: records in order, and positions that no record shows."""

    records: list[Record]
    reached: dict[int, int]
    """Partition → next offset. Control records and the end of the log move it without a record."""

    def advance(self, partition: int, offset: int) -> None:
        """Move a partition's next offset forward; no record need show it."""
        self.reached[partition] = max(self.reached.get(partition, 0), offset)

    def positions(self) -> dict[int, int]:
        """Return partition → next offset, for every partition that this batch moves."""
        reached = dict(self.reached)
        for record in self.records:
            if record.offset >= reached.get(record.partition, 0):
                reached[record.partition] = record.offset + 1
        return reached

    def halves(self) -> tuple[Batch, Batch]:
        """Split the batch in two. Positions without a record belong to the second half."""
        middle = len(self.records) // 2
        return Batch(self.records[:middle], {}), Batch(self.records[middle:], self.reached)


class StoreWriter:
    """The one writer of a store. Every method works in transactions: a reader sees all of one or nothing of it."""

    def __init__(self, store: Store, correlation_headers: frozenset[str], recent_seconds: float = 5.0) -> None:
        self.correlation_headers = correlation_headers
        """The reply headers whose values are indexed as correlation ids."""
        self._recent_seconds = recent_seconds
        """How old the last heartbeat may be (seconds) for a new writer to keep what the former one called ready."""
        self._store = store
        self._env = store.env
        self._topics_versions = itertools.count(1)
        self._session = b""
        self._unchecked_bytes = 0
        """How many bytes were written since the capacity was last checked."""

    def begin(self, session: bytes, servers: str) -> dict[str, TopicState]:
        """Begin as the writer; return name → state of the topics in the store.

        If a writer of the same ``servers`` wrote a heartbeat a moment ago, ready topics stay ready for the processes that have
        served them. Otherwise no topic is ready until it was read to the end that it has now: Kafka may have gone on, or be
        another cluster. ``session``: eight random bytes, which keep topic versions of two writers apart.
        """
        self._session = session
        beat = self._store.heartbeat()
        age = -1.0 if beat is None or beat.servers != servers else time.time() - beat.time
        stays = 0 <= age < self._recent_seconds
        with self._env.begin(write=True) as txn:
            states: dict[str, TopicState] = {}
            for key, value in txn.cursor(db=self._store.db("topics")):
                known = TopicState.load(value)
                # Not confirmed: processes that served the topic before go on, others wait until this writer has caught up.
                states[key.decode()] = replace(known, confirmed=False) if stays else replace(known, ready=False, error="")
            for state in states.values():
                self._put_state(txn, state)
        return states

    def write_heartbeat(self, servers: str) -> None:
        """Write a heartbeat. It shows that the writer runs and that the store can be written."""
        with self._env.begin(write=True, db=self._store.db("meta")) as txn:
            txn.put(b"heartbeat", json.dumps({"time": time.time(), "servers": servers}).encode())
            # Here, since heartbeats come regularly and this transaction keeps every other process from writing.
            self._store.extend_file()

    def claim_cluster(self, cluster_id: str) -> bool:
        """Store the cluster's id; if the data is another cluster's, drop it and return True."""
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
            self._bump_topics_version(txn)
        return True

    def orphaned_topic_ids(self, states: Iterable[TopicState]) -> set[bytes]:
        """Return the keys of data that belongs to none of these topics: a writer died while it dropped them."""
        return set(self._topic_ids()) - {state.key for state in states}

    def _topic_ids(self) -> Iterator[bytes]:
        with self._env.begin() as txn:
            for name in ("progress", "replies", "latest", "records"):
                cursor = txn.cursor(db=self._store.db(name))
                found = cursor.first()
                while found:
                    topic_id = cursor.key()[: codec.ID_BYTES]
                    yield topic_id
                    found = cursor.set_range(topic_id + b"\xff" * 8)  # skips every key of the topic

    def put_states(self, states: Iterable[TopicState]) -> None:
        """Store the states of topics."""
        with self._env.begin(write=True) as txn:
            for state in states:
                self._put_state(txn, state)

    def remove_topics(self, states: Iterable[TopicState]) -> None:
        """Remove topics. Their data is dropped afterwards (:meth:`drop_data`), when readers no longer serve them."""
        with self._env.begin(write=True) as txn:
            # The state goes first, in a transaction of its own: a reader that still had it would take half of the data for all.
            for state in states:
                txn.delete(state.name.encode(), db=self._store.db("topics"))
            self._bump_topics_version(txn)

    def remove_interest(self, names: Iterable[str]) -> None:
        """Remove the topic interest of requests in these topics."""
        with self._env.begin(write=True, db=self._store.db("interest")) as txn:
            for name in names:
                txn.delete(name.encode())

    def drop_data(self, topic_id: bytes) -> None:
        """Drop the records, indexes and progress of a topic key, in bounded transactions."""
        while self.drop_step(topic_id):
            pass

    def drop_step(self, topic_id: bytes) -> bool:
        """Drop some of what :meth:`drop_data` drops, in one short transaction; return True if there is more."""
        if not topic_id:
            return False
        # Progress goes first: without it a writer that finds the rest knows that the data is incomplete. Indexes go before the
        # records that they point to.
        for name in ("progress", "replies", "latest", "records"):
            if self._delete_some(name, topic_id):
                return True
        with self._env.begin(write=True) as txn:
            forget_bytes(txn, self._store, topic_id)
        return False

    def _delete_some(self, name: str, prefix: bytes, limit: int = _ROWS_PER_STEP) -> bool:
        with self._env.begin(write=True, db=self._store.db(name)) as txn:
            cursor = txn.cursor()
            if not cursor.set_range(prefix):
                return False
            for _ in range(limit):
                if cursor.key()[: len(prefix)] != prefix:
                    return False
                if not cursor.delete():  # deletes and moves to the next row; False at the end of the database
                    return False
        return True

    def start(self, state: TopicState, starts: Mapping[int, int], log_starts: Mapping[int, int]) -> None:
        """Store a topic's state and the first progress of partitions that have none yet."""
        with self._env.begin(write=True) as txn:
            self._put_state(txn, state)
            for partition, offset in starts.items():
                progress = Progress(offset, log_starts.get(partition, offset), offset)
                self._put_progress(txn, state.key, partition, progress)

    def apply(self, batches: Mapping[str, Batch], states: Mapping[str, TopicState]) -> None:
        """Write batches in one transaction; without capacity, raise an error (``capacity.is_full``) and write nothing."""
        with self._env.begin(write=True) as txn:
            size = sum(self._apply(txn, states[name], batch) for name, batch in batches.items())
            # Measuring the store reads statistics of every database, so it is done about every 4 MiB, not for every batch.
            if self._unchecked_bytes + size >= min(self._store.max_bytes // 64, _BYTES_PER_STEP):
                require_capacity(txn, self._store, [states[name] for name in batches], len(states))
                size = -self._unchecked_bytes
        self._unchecked_bytes += size

    def _apply(self, txn: lmdb.Transaction, state: TopicState, batch: Batch) -> int:
        """Write a batch; return by how many bytes the records grew."""
        progress = read_progress(txn, self._store.db("progress"), state.key)
        reached = batch.positions()
        size = self._put_records(txn, state, batch.records)
        if Role.REPLY in state.indexed:
            self._index_replies(txn, state, batch.records)
        drops = state.keeps_newest_only
        kept = 0
        if Role.FETCH in state.indexed:
            superseded = self._index_latest(txn, state, batch.records)
            if drops:
                size -= self._drop(txn, state, superseded)
            elif not state.keeps_all:
                # Of the evicted part of the log only live records were kept.
                kept = self._drop(txn, state, (at for at in superseded if _is_evicted(progress, *at)))
        add_bytes(txn, self._store, state.key, size, -kept)
        # In the same transaction as the records: a process that dies loses both or neither.
        for partition, offset in reached.items():
            old = progress.get(partition) or Progress(0, 0, 0)
            if offset > old.next_offset:
                complete = offset if drops else old.complete_from
                self._put_progress(txn, state.key, partition, Progress(offset, old.log_start, complete))
        return size

    # Roles that are added

    def add_roles(self, state: TopicState, roles: frozenset[Role]) -> TopicState:
        """Index new records for more roles from now on; return the new state.

        The role of a stream is served at once: what the store does not hold of the log is read from Kafka. For the other roles
        older records have to be read again first (:meth:`backfill`, :meth:`complete`).
        """
        streams = roles & {Role.STREAM}
        new = replace(state, roles=state.roles | streams, building=(state.building | roles) - state.roles - streams)
        with self._env.begin(write=True) as txn:
            if new.keeps_all or state.keeps_newest_only:
                reclassify_bytes(txn, self._store, new)
            self._put_state(txn, new)
        return new

    def backfill(self, batches: Mapping[str, Batch], states: Mapping[str, TopicState]) -> None:
        """Index older records for the roles that are being built. Newer records keep their place in the index."""
        with self._env.begin(write=True) as txn:
            if sum(self._backfill(txn, states[name], batch.records) for name, batch in batches.items()) > 0:
                require_capacity(txn, self._store, [states[name] for name in batches], len(states))

    def _backfill(self, txn: lmdb.Transaction, state: TopicState, records: Sequence[Record]) -> int:
        progress = read_progress(txn, self._store.db("progress"), state.key)
        log = kept = 0
        for record in records:
            known = progress.get(record.partition)
            if known is None or record.offset < known.log_start:
                continue  # retention has removed it meanwhile
            if Role.REPLY in state.building:
                self._index_older_replies(txn, state, record)
            # A backfill reads old records after newer ones were indexed, so it must not replace what is newer.
            if Role.FETCH in state.building:
                is_newest, removed = self._index_older(txn, state, record, progress)
                kept -= removed
            else:
                is_newest = True
            if is_newest or state.keeps_all:
                size = self._put_older(txn, state, record)
                log += size if state.keeps_all else 0
                kept += 0 if state.keeps_all else size
        add_bytes(txn, self._store, state.key, log, kept)
        return log + kept

    def _put_older(self, txn: lmdb.Transaction, state: TopicState, record: Record) -> int:
        """Store a record that may be there already; return by how many bytes the store grew."""
        data = _encode(record)
        at = codec.position_key(state.key, record.partition, record.offset)
        return len(data) if txn.put(at, data, overwrite=False, db=self._store.db("records")) else 0

    def _index_older(
        self, txn: lmdb.Transaction, state: TopicState, record: Record, progress: Mapping[int, Progress]
    ) -> tuple[bool, int]:
        """Index a record as the newest of its key unless a newer one is.

        Return True if the record is the newest, and the size of the record that was removed for it.
        """
        if record.key is None:
            return True, 0
        at = codec.index_key(state.key, record.key) + codec.PARTITION.pack(record.partition)
        db = self._store.db("latest")
        row = txn.get(at, db=db)
        offset = -1 if row is None else latest_offset(row)
        if offset >= record.offset:
            return offset == record.offset, 0
        txn.put(at, pack_latest(record.offset, record.timestamp), db=db)
        if offset < 0 or state.keeps_all or not _is_evicted(progress, record.partition, offset):
            return True, 0
        return True, self._drop(txn, state, [(record.partition, offset)])

    def _index_older_replies(self, txn: lmdb.Transaction, state: TopicState, record: Record) -> None:
        """The first reply of a partition counts, so an older one takes the place of a newer one."""
        db = self._store.db("replies")
        for correlation_id in self._correlation_ids(record):
            at = codec.index_key(state.key, correlation_id)
            row = txn.get(at, db=db)
            known = None if row is None else unpack_reply(row)
            if known is None or (known[0] == record.partition and known[1] > record.offset):
                txn.put(at, pack_reply(record.partition, record.offset), db=db)

    def complete(self, state: TopicState) -> TopicState:
        """Serve the roles that were being built: older records have been read again. Return the new state."""
        new = replace(state, roles=state.indexed, building=frozenset())
        with self._env.begin(write=True) as txn:
            if state.keeps_all:
                for partition, each in read_progress(txn, self._store.db("progress"), state.key).items():
                    self._put_progress(txn, state.key, partition, replace(each, complete_from=each.log_start))
            self._put_state(txn, new)
        return new

    def _correlation_ids(self, record: Record) -> Iterator[bytes]:
        return (value for name, value in record.headers if value is not None and name in self.correlation_headers)

    def _drop(self, txn: lmdb.Transaction, state: TopicState, positions: Iterable[tuple[int, int]]) -> int:
        """Remove records that are indexed no longer; return their size."""
        records = self._store.db("records")
        return sum(len(txn.pop(codec.position_key(state.key, *at), db=records) or b"") for at in positions)

    def _put_records(self, txn: lmdb.Transaction, state: TopicState, records: Sequence[Record]) -> int:
        items = [(codec.position_key(state.key, each.partition, each.offset), _encode(each)) for each in records]
        txn.cursor(db=self._store.db("records")).putmulti(items)
        return sum(len(data) for _, data in items)

    def _index_latest(self, txn: lmdb.Transaction, state: TopicState, records: Sequence[Record]) -> list[tuple[int, int]]:
        """Index records as the newest of their keys; return the positions that they supersede in their partitions."""
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
        """Index replies. The first reply with a correlation id counts, whatever comes later."""
        db = self._store.db("replies")
        for record in records:
            for correlation_id in self._correlation_ids(record):
                at = codec.index_key(state.key, correlation_id)
                txn.put(at, pack_reply(record.partition, record.offset), overwrite=False, db=db)

    def trim_step(self, state: TopicState, partition: int, log_start: int) -> bool:
        """Remove some records before Kafka's log start; return True if none is left."""
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
                    if len(doomed) == _ROWS_PER_STEP or size >= _BYTES_PER_STEP:
                        done = False
                        break
                    doomed.append((key, value))
                    size += len(value)
            for key, value in doomed:
                self._remove(txn, state, key, value)
            evicted = self._evicted_bytes(txn, state, partition, doomed)
            add_bytes(txn, self._store, state.key, evicted - size, -evicted)
            # With every step: a stream must not take a log that is removed in part for the whole.
            reached = log_start if done else codec.position(doomed[-1][0])[1] + 1
            self._move_log_start(txn, state.key, partition, reached)
        return done

    def _evicted_bytes(
        self, txn: lmdb.Transaction, state: TopicState, partition: int, rows: Iterable[tuple[bytes, bytes]]
    ) -> int:
        """Return the size of those rows that are live records of the evicted part of the log."""
        progress = read_progress(txn, self._store.db("progress"), state.key).get(partition)
        # Only if the quota counts them apart.
        has_evicted = progress is not None and Role.STREAM in state.roles and not state.keeps_all
        complete_from = progress.complete_from if progress is not None and has_evicted else 0
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
        for correlation_id in self._correlation_ids(record):
            at = codec.index_key(state.key, correlation_id)
            if txn.get(at, db=self._store.db("replies")) == pack_reply(partition, offset):
                txn.delete(at, db=self._store.db("replies"))

    def _move_log_start(self, txn: lmdb.Transaction, topic_id: bytes, partition: int, log_start: int) -> None:
        old = read_progress(txn, self._store.db("progress"), topic_id).get(partition)
        if old is not None and log_start > old.log_start:
            # The log start may be after everything that was read: reading continues there.
            moved = Progress(max(old.next_offset, log_start), log_start, max(old.complete_from, log_start))
            self._put_progress(txn, topic_id, partition, moved)
            self._bump_topics_version(txn)

    def _put_state(self, txn: lmdb.Transaction, state: TopicState) -> None:
        txn.put(state.name.encode(), state.dump(), db=self._store.db("topics"))
        self._bump_topics_version(txn)

    def _put_progress(self, txn: lmdb.Transaction, topic_id: bytes, partition: int, progress: Progress) -> None:
        txn.put(topic_id + codec.PARTITION.pack(partition), progress.pack(), db=self._store.db("progress"))

    def _bump_topics_version(self, txn: lmdb.Transaction) -> None:
        """Change the version that readers compare before they read the topics again."""
        version = self._session + next(self._topics_versions).to_bytes(8)
        txn.put(b"topics_version", version, db=self._store.db("meta"))


def reset_stale_readiness(store: Store, servers: str, recent_seconds: float) -> None:
    """Withdraw the readiness of topics if the last heartbeat is older than ``recent_seconds``.

    Kafka may have gone on since, or be another cluster. Does nothing if a process is the writer. Call it after opening a store
    and before serving from it.
    """
    # If the lock is taken, its holder is the writer and decides about readiness by itself.
    lock = WriterLock(store.path)
    if lock.acquire():
        try:
            StoreWriter(store, frozenset(), recent_seconds).begin(os.urandom(8), servers)
        finally:
            lock.release()


def _is_evicted(progress: Mapping[int, Progress], partition: int, offset: int) -> bool:
    known = progress.get(partition)
    return known is not None and offset < known.complete_from


def _encode(record: Record) -> bytes:
    return codec.encode_record(record.timestamp, record.key, record.value, record.headers)
