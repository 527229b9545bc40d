"""The store: this host's copy of the topics that routes read, in LMDB, shared by every process of the host.

It is a cache of Kafka: deleting it costs time, not data. One process writes (:mod:`kafkaproxy.worker.store.writer`), any number
read. Data is keyed by Kafka's topic id, so the data of a re-created topic never mixes with that of the old one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import lmdb

from kafkaproxy.worker.store import codec, generations
from kafkaproxy.worker.store.environment import close_environment, needed_bytes, open_environment
from kafkaproxy.worker.types import Record, Role

__all__ = ["FORMAT", "Heartbeat", "Progress", "Store", "TopicState", "current_path"]

log = logging.getLogger("kafkaproxy.store")

Buffer = bytes | memoryview

FORMAT: Final = 4
"""The version of the layout; raise it with every change. A store of another version lies in another folder and is not touched.
"""
DATABASES: Final = ("records", "latest", "replies", "progress", "topics", "interest", "meta")

_RESERVE: Final = 1 << 20
_EXTENSION_BYTES: Final = 64 << 20
_LATEST: Final = struct.Struct(">Qq")
_PROGRESS: Final = struct.Struct(">QQQ")
_REPLY: Final = struct.Struct(">IQ")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition is read."""

    next_offset: int
    """The offset that will be read next."""
    log_start: int
    """Kafka's log start offset when it was last polled."""
    complete_from: int
    """From this offset on ``records`` holds every record; before it, only live records."""

    def pack(self) -> bytes:
        """Encode for the store."""
        return _PROGRESS.pack(self.next_offset, self.log_start, self.complete_from)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last heartbeat of a writer."""

    time: float
    """When it was written, in seconds since the epoch."""
    servers: str
    """The bootstrap servers of the cluster that the writer reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """What the store holds of a topic, and what it serves it for."""

    name: str
    id: str = ""
    """Kafka's topic id in hexadecimal; for a mock cluster, a digest of cluster and name."""
    partitions: int = 0
    compacted: bool = False
    roles: frozenset[Role] = frozenset()
    """The roles that the store serves the topic for."""
    building: frozenset[Role] = frozenset()
    """Roles that were added while the topic was read: new records are indexed for them, older ones have yet to be read again.
    """
    ready: bool = False
    """True if the topic was read to the end that it had when reading began."""
    confirmed: bool = True
    """False if only a former writer called the topic ready. It is then ready for processes that have served it, which go on,
    and for no others, until the present writer has read it to the end that it had at the takeover."""
    error: str = ""
    """An :class:`kafkaproxy.worker.errors.Unavailable`, or empty."""
    cuts: int = 0
    """How often its log was truncated, so that its offsets began to mean other records."""
    key: bytes = field(init=False, default=b"", compare=False)
    """The key of its data in the store. Each log has its own, so that records of a truncated log never mix with those of the
    next."""

    def __post_init__(self) -> None:
        key = bytes.fromhex(self.id)
        if self.cuts:
            key = hashlib.blake2b(key + self.cuts.to_bytes(8), digest_size=codec.ID_BYTES).digest()
        object.__setattr__(self, "key", key)

    @property
    def indexed(self) -> frozenset[Role]:
        """The roles for which new records are indexed and kept."""
        return self.roles | self.building

    @property
    def keeps_all(self) -> bool:
        """True if the store keeps every record that Kafka has: each counts in a merge, or may be a reply."""
        return Role.REPLY in self.indexed or (Role.FETCH in self.indexed and not self.compacted)

    @property
    def keeps_newest_only(self) -> bool:
        """True if superseded records are removed at once."""
        return self.compacted and self.indexed == {Role.FETCH}

    def dump(self) -> bytes:
        """Encode for the store."""
        data = asdict(self)
        del data["key"]
        return json.dumps({**data, "roles": sorted(self.roles), "building": sorted(self.building)}).encode()

    @classmethod
    def load(cls, data: bytes) -> TopicState:
        """Decode what :meth:`dump` wrote."""
        values = json.loads(data)
        roles = {name: frozenset(Role(role) for role in values.get(name, ())) for name in ("roles", "building")}
        return cls(**{**values, **roles})


class Store:
    """One generation of a cluster's store. Its methods may be called from any thread; none leaves a transaction open."""

    def __init__(self, folder: Path, max_bytes: int, *, may_replace: bool = True) -> None:
        """Open the current generation of the store in a cluster's ``folder``; make one if there is none that can be used.

        Without ``may_replace`` an error is raised instead: ``FileNotFoundError``, or the error with which opening failed.
        """
        self.folder = folder
        self.home = home_of(folder)
        """The folder of the generations."""
        self.max_bytes = max_bytes
        """The most bytes that topics may take; the map has a reserve beyond it (:mod:`kafkaproxy.worker.store.capacity`)."""
        self._map_bytes = max_bytes + max_bytes // 8 + _RESERVE
        self._opened = open_environment(self.home, self._map_bytes, DATABASES, may_replace=may_replace)
        self._env, self._dbs = self._opened.env, self._opened.dbs
        self.path = self._opened.path
        """The folder of this generation."""
        self._longest = 0

    @property
    def env(self) -> lmdb.Environment:
        """The LMDB environment, for the writer."""
        return self._env

    def db(self, name: str) -> Any:
        """Return a database handle by its name."""
        return self._dbs[name]

    def transaction(self) -> int:
        """Return the number of the last committed transaction of any process."""
        last: int = self._env.info()["last_txnid"]
        return last

    @property
    def is_current(self) -> bool:
        """True if this generation has not been replaced by another one."""
        return generations.current(self.home) == self.path

    def is_torn(self) -> bool:
        """Return True if the data file was truncated or removed while it was in use: it must not be read any more."""
        needed = needed_bytes(self._env)
        try:
            size = (self.path / "data.mdb").stat().st_size
        except FileNotFoundError:
            return True
        # Shorter than needed alone proves nothing: LMDB may not have written the last pages (see extend_file). Shorter than it
        # was before proves that the file was truncated.
        self._longest = max(self._longest, size)
        return size < needed and size < self._longest

    def extend_file(self) -> None:
        """Keep the data file longer than its contents. Call it in a write transaction, which keeps other processes from
        writing.

        LMDB itself may leave pages unwritten at the end, which would look as if the file had been truncated (:meth:`is_torn`).
        The extension is a hole and takes no space on the disk.
        """
        data = self.path / "data.mdb"
        needed, size = needed_bytes(self._env), data.stat().st_size
        if needed <= size < needed + _EXTENSION_BYTES // 2:
            os.truncate(data, max(min(needed + _EXTENSION_BYTES, self._map_bytes), size))

    def close(self, *, may_be_in_use: bool = False) -> None:
        """Release the environment; it closes with its last user.

        ``may_be_in_use``: it closes only when the last transaction of any thread has ended.
        """
        close_environment(self._opened, may_be_in_use=may_be_in_use)

    def topics(self) -> dict[str, TopicState]:
        """Return name → state of every topic in the store."""
        with self._env.begin(db=self._dbs["topics"]) as txn:
            return {key.decode(): TopicState.load(value) for key, value in txn.cursor()}

    def topics_version(self) -> bytes:
        """Return a version that changes with every change of :meth:`topics`."""
        with self._env.begin(db=self._dbs["meta"]) as txn:
            return bytes(txn.get(b"topics_version", b""))

    def interest(self) -> dict[str, dict[str, Any]]:
        """Return the topic interest of requests: name → ``roles``, and ``used``: when it was used last, in seconds since the
        epoch."""
        with self._env.begin(db=self._dbs["interest"]) as txn:
            return {key.decode(): json.loads(value) for key, value in txn.cursor()}

    def add_interest(self, name: str, roles: frozenset[Role], now: float) -> None:
        """Ask the writer to read a topic for these roles. Blocks while the writer commits.

        ``now``: seconds since the epoch; the interest is removed when it was not renewed for ``TOPIC_IDLE_SECONDS``.
        """
        with self._env.begin(write=True, db=self._dbs["interest"]) as txn:
            known = txn.get(name.encode())
            if known is not None:
                roles |= frozenset(Role(role) for role in json.loads(known)["roles"])
            txn.put(name.encode(), json.dumps({"roles": sorted(roles), "used": now}).encode())

    def request_metadata_poll(self) -> None:
        """Ask the writer, in whichever process, to poll the topics' metadata. Blocks while the writer commits."""
        with self._env.begin(write=True, db=self._dbs["meta"]) as txn:
            txn.put(b"look", os.urandom(8))

    def metadata_poll_request(self) -> bytes:
        """Return a value that changes with every :meth:`request_metadata_poll`."""
        with self._env.begin(db=self._dbs["meta"]) as txn:
            return bytes(txn.get(b"look", b""))

    def heartbeat(self) -> Heartbeat | None:
        """Return the last heartbeat of a writer, of this process or another; None if there was none."""
        with self._env.begin(db=self._dbs["meta"]) as txn:
            row = txn.get(b"heartbeat")
        return None if row is None else Heartbeat(**json.loads(row))

    def is_unchanged(self, state: TopicState) -> bool:
        """Return True if the topic was neither dropped nor re-read since ``state`` was taken."""
        with self._env.begin(db=self._dbs["topics"]) as txn:
            row = txn.get(state.name.encode())
        if row is None:
            return False
        now = TopicState.load(row)
        return now.key == state.key and now.ready

    def progress(self, topic_id: bytes) -> dict[int, Progress]:
        """Return partition → progress of a topic."""
        with self._env.begin() as txn:
            return read_progress(txn, self._dbs["progress"], topic_id)

    def next_offsets(self, topic_id: bytes) -> dict[int, int]:
        """Return partition → next offset of a topic."""
        return {partition: each.next_offset for partition, each in self.progress(topic_id).items()}

    def latest(self, topic_id: bytes, key: bytes) -> Record | None:
        """Return the newest record of a key, also if it is a tombstone; None if there is none.

        Within a partition the highest offset is the newest. Between partitions (the topic grew, or a producer used another
        partitioner) it is the latest timestamp.
        """
        prefix = codec.index_key(topic_id, key)
        with self._env.begin(buffers=True) as txn:
            found = newest_position(txn, self._dbs["latest"], prefix)
            if found is None:
                return None
            data = txn.get(codec.position_key(topic_id, *found), db=self._dbs["records"])
            return None if data is None else codec.decode_record(*found, data)

    def reply(self, topic_id: bytes, correlation_id: bytes) -> Record | None:
        """Return the first reply with this correlation id; None if there is none."""
        with self._env.begin(buffers=True) as txn:
            at = txn.get(codec.index_key(topic_id, correlation_id), db=self._dbs["replies"])
            if at is None:
                return None
            partition, offset = unpack_reply(at)
            data = txn.get(codec.position_key(topic_id, partition, offset), db=self._dbs["records"])
            return None if data is None else codec.decode_record(partition, offset, data)

    def read(
        self, topic_id: bytes, partition: int, start: int, end: int, limit: int, max_bytes: int
    ) -> tuple[list[Record], int]:
        """Return the records of a partition from ``start`` to before ``end``, and the offset up to which they are complete.

        At most ``limit`` records and about ``max_bytes`` bytes are read at once.
        """
        with self._env.begin(db=self._dbs["records"], buffers=True) as txn:
            return _read(txn, topic_id, partition, start, end, limit, max_bytes)

    def read_log(
        self, topic_id: bytes, partition: int, start: int, end: int, limit: int, max_bytes: int
    ) -> tuple[list[Record], int] | None:
        """Like :meth:`read`, for a caller that must not miss a record: it reads no further than ingest has read.

        Return None if the store does not hold ``start``: it was evicted, or was not read yet or not read again yet.
        """
        # Progress and records in one transaction: in between, the topic could be dropped and be read again in part.
        with self._env.begin(db=self._dbs["records"], buffers=True) as txn:
            row = txn.get(topic_id + codec.PARTITION.pack(partition), db=self._dbs["progress"])
            if row is None:
                return None
            known = Progress(*_PROGRESS.unpack(row))
            if not known.complete_from <= start < known.next_offset:
                return None
            return _read(txn, topic_id, partition, start, min(end, known.next_offset), limit, max_bytes)

    def last(
        self, topic_id: bytes, partition: int, *, key: bytes | None, limit: int, max_scanned: int, max_bytes: int
    ) -> tuple[list[Record], bool]:
        """Return the newest records of a partition, newest first, and True if there are no more.

        ``key``: only the records of this key. At most ``max_scanned`` records are read; at most ``limit`` records and about
        ``max_bytes`` bytes are returned.
        """
        found: list[Record] = []
        size = 0
        with self._env.begin(buffers=True) as txn:
            for seen, (at, data) in enumerate(_range_backwards(txn, self._dbs["records"], topic_id, partition)):
                if seen >= max_scanned or len(found) >= limit or size >= max_bytes:
                    return found, False
                if key is None or codec.decode_key(data)[0] == key:
                    found.append(codec.decode_record(partition, at, data))
                    size += len(data)
        return found, True

    def newest(self, state: TopicState, matches: Callable[[Record], bool]) -> Record | None:
        """Return the newest live record that matches; None if there is none. Superseded records of a key are not considered."""
        best: Record | None = None
        with self._env.begin(buffers=True) as txn:
            for partition in range(state.partitions):
                for at, data in _range_backwards(txn, self._dbs["records"], state.key, partition):
                    if not self.is_live(txn, state, partition, at, data):
                        continue
                    record = codec.decode_record(partition, at, data)
                    if matches(record):
                        best = record if best is None or record.timestamp > best.timestamp else best
                        break
        return best

    def scan(self, txn: lmdb.Transaction, state: TopicState) -> Iterator[tuple[int, int, Buffer]]:
        """Yield partition, offset and data of the records of a merge, in order: live records if compacted, else every record.

        ``txn`` has to be begun with ``buffers=True``; the data is valid only within it.
        """
        for partition in range(state.partitions):
            for at, data in _range(txn, state.key, partition, 0, self._dbs["records"]):
                if not state.compacted or self.is_live(txn, state, partition, at, data):
                    yield partition, at, data

    def is_live(self, txn: lmdb.Transaction, state: TopicState, partition: int, offset: int, data: bytes | memoryview) -> bool:
        """Return True if there is no newer record of the same key. A record without a key is always live."""
        key, _ = codec.decode_key(data)
        if key is None:
            return True
        return newest_position(txn, self._dbs["latest"], codec.index_key(state.key, key)) == (partition, offset)


def home_of(folder: Path) -> Path:
    """Return the folder of the generations of the store in a cluster's folder."""
    return folder / f"store-{FORMAT}"


def current_path(folder: Path) -> Path | None:
    """Return the folder of the current generation of the store in a cluster's folder; None if there is none."""
    return generations.current(home_of(folder))


def read_progress(txn: lmdb.Transaction, db: Any, topic_id: bytes) -> dict[int, Progress]:
    """Return partition → progress of a topic, within a transaction."""
    rows: dict[int, Progress] = {}
    cursor = txn.cursor(db=db)
    if cursor.set_range(topic_id):
        for key, value in cursor:
            if key[: codec.ID_BYTES] != topic_id:
                break
            rows[codec.PARTITION.unpack_from(key, codec.ID_BYTES)[0]] = Progress(*_PROGRESS.unpack(value))
    return rows


def newest_position(txn: lmdb.Transaction, latest: Any, prefix: bytes) -> tuple[int, int] | None:
    """Return partition and offset of the newest record under an index prefix; None if there is none."""
    cursor = txn.cursor(db=latest)
    best: tuple[int, int, int] | None = None
    if cursor.set_range(prefix):
        size = len(prefix)
        for key, value in cursor:
            if key[:size] != prefix or len(key) != size + codec.PARTITION.size:
                break
            offset, timestamp = _LATEST.unpack(value)
            partition = codec.PARTITION.unpack_from(key, size)[0]
            # Offsets of different partitions cannot be compared, timestamps can. Of equal timestamps the higher partition wins,
            # so that every process returns the same record.
            if best is None or (timestamp, partition) > best[:2]:
                best = (timestamp, partition, offset)
    return None if best is None else (best[1], best[2])


def pack_latest(offset: int, timestamp: int) -> bytes:
    """Encode a row of ``latest``."""
    return _LATEST.pack(offset, timestamp)


def latest_offset(row: bytes | memoryview) -> int:
    """Return the offset of a row of ``latest``."""
    offset: int = _LATEST.unpack(row)[0]
    return offset


def pack_reply(partition: int, offset: int) -> bytes:
    """Encode a row of ``replies``."""
    return _REPLY.pack(partition, offset)


def unpack_reply(row: bytes | memoryview) -> tuple[int, int]:
    """Decode a row of ``replies``: partition and offset."""
    partition, offset = _REPLY.unpack(row)
    return partition, offset


def _read(
    txn: lmdb.Transaction, topic_id: bytes, partition: int, start: int, end: int, limit: int, max_bytes: int
) -> tuple[list[Record], int]:
    records: list[Record] = []
    size = 0
    for at, data in _range(txn, topic_id, partition, start):
        if at >= end:
            break
        if len(records) >= limit or size >= max_bytes:
            return records, at
        records.append(codec.decode_record(partition, at, data))
        size += len(data)
    return records, end


def _range(txn: lmdb.Transaction, topic_id: bytes, partition: int, offset: int, db: Any = None) -> Iterator[tuple[int, Buffer]]:
    cursor = txn.cursor(db=db)
    prefix = topic_id + codec.PARTITION.pack(partition)
    if not cursor.set_range(codec.position_key(topic_id, partition, offset)):
        return
    for key, value in cursor:
        # The database holds all topics and partitions in one order; the next partition's records follow this one's.
        if key[: len(prefix)] != prefix:
            return
        yield codec.position(key)[1], value


def _range_backwards(txn: lmdb.Transaction, db: Any, topic_id: bytes, partition: int) -> Iterator[tuple[int, Buffer]]:
    cursor = txn.cursor(db=db)
    prefix = topic_id + codec.PARTITION.pack(partition)
    # set_range() finds the first key after this partition; the one before it is the partition's last record.
    positioned = cursor.set_range(topic_id + codec.PARTITION.pack(partition + 1))
    found = cursor.prev() if positioned else cursor.last()
    while found and cursor.key()[: len(prefix)] == prefix:
        yield codec.position(cursor.key())[1], cursor.value()
        found = cursor.prev()
