"""The temporary file of a merge: a thread writes it from one snapshot of the store; it is removed when the request ends."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import struct
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, Final, Self

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.fetch import RecordSearch
from kafkaproxy.consumers.waiting import counted_as_waiting
from kafkaproxy.core.etags import fingerprint, merge_etag
from kafkaproxy.core.jsontext import is_json
from kafkaproxy.http.problems import Problem, retry_after
from kafkaproxy.metrics import Cell
from kafkaproxy.worker.store.codec import decode_record
from kafkaproxy.worker.store.reader import TopicState
from kafkaproxy.worker.worker import Worker

__all__ = ["MergeFile", "MergeResult", "cached_etag"]

log = logging.getLogger("kafkaproxy.fetch")

_IN_MEMORY: Final = 1 << 20
_MEMBER: Final = struct.Struct(">IQ")
_MAX_ETAGS: Final = 1024


@dataclass(frozen=True, slots=True)
class MergeResult:
    """A merged array. ``body`` is positioned at its start; ``length`` is in bytes."""

    etag: str
    empty: bool
    skipped: int
    """How many matching records were left out because they are not JSON."""
    length: int
    body: IO[bytes]


class MergeFile:
    """One request's merge: at most one file at a time, and one of the ``MAX_MERGES`` slots while it has a file.

    A context manager: at its end it removes the file, frees the slot, and stops a thread that still writes.
    """

    def __init__(self, search: RecordSearch, worker: Worker, settings: Settings, skipped: Cell) -> None:
        """``skipped`` counts the records that are left out (D15)."""
        self._search = search
        self._skipped = skipped
        self._worker = worker
        self._settings = settings
        self._slots = search.cluster.hub().merges
        self._has_slot = False
        self._merged: MergeResult | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        """Remove the file and free the slot."""
        if self._merged is not None:
            self._merged.body.close()
            self._merged = None
        if self._has_slot:
            self._has_slot = False
            self._slots.release()

    async def make(self) -> MergeResult:
        """Remove the previous file, and merge the records that match now.

        Raises a 503 :class:`Problem` if no slot is free within ``READY_TIMEOUT_SECONDS``, or the disk is full.
        """
        self.drop()
        await self._acquire_slot()
        while True:
            state = await self._search.state()
            self._merged = merged = await self._write_in_thread(state)
            if self._search.cluster.is_unchanged(state):
                return merged
            merged.body.close()  # the topic was dropped or read anew meanwhile

    async def _acquire_slot(self) -> None:
        """Wait for a slot, for ``READY_TIMEOUT_SECONDS`` at most."""
        if not self._slots.locked():
            await self._slots.acquire()
        else:
            try:
                with counted_as_waiting(self._worker, self._settings):
                    async with asyncio.timeout(self._settings.ready_timeout_seconds):
                        await self._slots.acquire()
            except TimeoutError:
                detail = "Too many merged answers are under way at the moment. Try again."
                raise Problem(503, "too-many-merges", detail, [retry_after(self._settings.retry_after_seconds)]) from None
        self._has_slot = True

    async def _write_in_thread(self, state: TopicState) -> MergeResult:
        stop = threading.Event()
        writing = self._search.cluster.scans.submit(_write, self._search, state, stop)
        try:
            merged = await asyncio.wrap_future(writing)
        except asyncio.CancelledError:
            stop.set()
            writing.add_done_callback(_discard)  # the thread may finish the file before it sees the event
            raise
        except OSError as error:
            log.error("merge_failed topic=%s error=%s", self._search.topic, error)
            detail = "There is no room for the answer's temporary file. Ask an operator."
            raise Problem(503, "merge-failed", detail, [retry_after(self._settings.retry_after_seconds)]) from error
        self._skipped.value += merged.skipped
        return merged


class _Stopped(Exception):
    """The request was cancelled, so the merge is not needed any more."""


def _discard(writing: Future[MergeResult]) -> None:
    if not writing.cancelled() and writing.exception() is None:
        writing.result().body.close()


def _write(search: RecordSearch, state: TopicState, stop: threading.Event) -> MergeResult:
    """Write the array and compute its ``etag``, both from one transaction."""
    generation = _generation(search, state)
    body: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - MergeFile closes it
    try:
        merged = _fill(body, search, state, stop)
    except BaseException:
        body.close()
        raise
    if generation == _generation(search, state):  # nothing was written meanwhile, so this generation has this etag
        _remember(search, state, generation, merged.etag)
    return merged


def _fill(body: IO[bytes], search: RecordSearch, state: TopicState, stop: threading.Event) -> MergeResult:
    digest = hashlib.blake2b(digest_size=8)
    empty = True
    skipped = 0
    body.write(b"[")
    for partition, offset, value in _members(search, state, stop):
        if not is_json(value):
            skipped += 1
            continue
        digest.update(_MEMBER.pack(partition, offset))
        body.write(value if empty else b"," + value)
        empty = False
    body.write(b"]")
    if skipped:
        log.warning("merge_skipped topic=%s records=%s reason=not_json", search.topic, skipped)
    length = body.tell()
    body.seek(0)
    return MergeResult(merge_etag(fingerprint(state.key), digest.digest()), empty, skipped, length, body)


def _members(search: RecordSearch, state: TopicState, stop: threading.Event) -> Iterator[tuple[int, int, bytes]]:
    """Yield partition, offset and value of the records to merge: only the newest of a key if the topic is compacted."""
    store = search.cluster.store
    with store.env.begin(buffers=True, db=store.db("records")) as txn:
        for partition, offset, data in store.scan(txn, state):
            if stop.is_set():
                raise _Stopped
            record = decode_record(partition, offset, data)
            if record.value and search.matches(record):
                yield partition, offset, record.value


# The etag of the last merge, by topic and filters: a poll of an unchanged topic is answered without a merge.
_etags: OrderedDict[tuple[object, ...], tuple[object, str]] = OrderedDict()


def cached_etag(search: RecordSearch, state: TopicState) -> str | None:
    """Return the ``etag`` of a merge in the topic's current generation; None if it is not known."""
    known = _etags.get(_etag_key(search, state))
    return known[1] if known is not None and known[0] == _generation(search, state) else None


def _generation(search: RecordSearch, state: TopicState) -> object:
    progress = search.cluster.store.progress(state.key)
    return (state.compacted, tuple(sorted((partition, each.pack()) for partition, each in progress.items())))


def _etag_key(search: RecordSearch, state: TopicState) -> tuple[object, ...]:
    return (str(search.cluster.store.folder), state.key, search.filters)


def _remember(search: RecordSearch, state: TopicState, generation: object, etag: str) -> None:
    _etags[_etag_key(search, state)] = (generation, etag)
    while len(_etags) > _MAX_ETAGS:
        _etags.popitem(last=False)
