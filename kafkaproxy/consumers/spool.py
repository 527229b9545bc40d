"""The file of a merge: written in a thread from one snapshot of the store, removed whatever becomes of the request."""

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
from kafkaproxy.consumers.fetch import Search
from kafkaproxy.consumers.waiting import waiting
from kafkaproxy.core.etags import fingerprint, merge_etag
from kafkaproxy.core.jsontext import is_json
from kafkaproxy.http.problems import Problem, retry_after
from kafkaproxy.metrics import Cell
from kafkaproxy.worker.store.codec import decode_record
from kafkaproxy.worker.store.reader import TopicState
from kafkaproxy.worker.worker import Worker

__all__ = ["Merged", "Merging", "known_etag"]

log = logging.getLogger("kafkaproxy.fetch")

_IN_MEMORY: Final = 1 << 20
_MEMBER: Final = struct.Struct(">IQ")
_KNOWN_TAGS: Final = 1024


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge at one instant. ``body`` is positioned at its start."""

    etag: str
    empty: bool
    skipped: int
    """How many records that match are not in it, because they are not JSON."""
    length: int
    body: IO[bytes]


class Merging:
    """One request's merge: at most one file at a time, and a place among the ``MAX_MERGES`` that may have one.

    Use it as a context manager: after it there is neither file nor place, and a thread that still writes stops.
    """

    def __init__(self, search: Search, worker: Worker, settings: Settings, skipped: Cell) -> None:
        """Count in ``skipped`` what is left out (D15)."""
        self._search = search
        self._skipped = skipped
        self._worker = worker
        self._settings = settings
        self._places = search.cluster.hub().merges
        self._has_place = False
        self._merged: Merged | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        """Remove the file and give the place back."""
        if self._merged is not None:
            self._merged.body.close()
            self._merged = None
        if self._has_place:
            self._has_place = False
            self._places.release()

    async def make(self) -> Merged:
        """Merge what there is now; whatever was merged before is dropped."""
        self.drop()
        await self._take_place()
        while True:
            state = await self._search.state()
            self._merged = merged = await self._written(state)
            if self._search.cluster.is_unchanged(state):
                return merged
            merged.body.close()

    async def _take_place(self) -> None:
        """Wait for a place; not for longer than for a topic."""
        if not self._places.locked():
            await self._places.acquire()
        else:
            try:
                with waiting(self._worker, self._settings):
                    async with asyncio.timeout(self._settings.ready_timeout_seconds):
                        await self._places.acquire()
            except TimeoutError:
                detail = "Too many merged answers are under way at the moment. Try again."
                raise Problem(503, "too-many-merges", detail, [retry_after(self._settings.retry_after_seconds)]) from None
        self._has_place = True

    async def _written(self, state: TopicState) -> Merged:
        stop = threading.Event()
        writing = self._search.cluster.scans.submit(_write, self._search, state, stop)
        try:
            merged = await asyncio.wrap_future(writing)
        except asyncio.CancelledError:
            stop.set()
            writing.add_done_callback(_discard)
            raise
        except OSError as error:
            log.error("merge_failed topic=%s error=%s", self._search.topic, error)
            detail = "There is no room for the answer's temporary file. Ask an operator."
            raise Problem(503, "merge-failed", detail, [retry_after(self._settings.retry_after_seconds)]) from error
        self._skipped.value += merged.skipped
        return merged


class _Stopped(Exception):
    """Nobody waits for the merge any more."""


def _discard(writing: Future[Merged]) -> None:
    if not writing.cancelled() and writing.exception() is None:
        writing.result().body.close()


def _write(search: Search, state: TopicState, stop: threading.Event) -> Merged:
    """Write the array and take its tag, both from one transaction."""
    stamp = _stamp(search, state)
    body: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by whoever sends it
    try:
        merged = _fill(body, search, state, stop)
    except BaseException:
        body.close()
        raise
    if stamp == _stamp(search, state):  # nothing was written meanwhile, so the tag belongs to the stamp
        _remember(search, state, stamp, merged.etag)
    return merged


def _fill(body: IO[bytes], search: Search, state: TopicState, stop: threading.Event) -> Merged:
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
    return Merged(merge_etag(fingerprint(state.key), digest.digest()), empty, skipped, length, body)


def _members(search: Search, state: TopicState, stop: threading.Event) -> Iterator[tuple[int, int, bytes]]:
    """Yield the records of the merge: live if compacted, filtered, neither null nor empty."""
    store = search.cluster.store
    with store.env.begin(buffers=True, db=store.db("records")) as txn:
        for partition, offset, data in store.scan(txn, state):
            if stop.is_set():
                raise _Stopped
            record = decode_record(partition, offset, data)
            if record.value and search.matches(record):
                yield partition, offset, record.value


# What a merge's tag was when the topic was last read for it; a poll of an unchanged topic then reads nothing.
_tags: OrderedDict[tuple[object, ...], tuple[object, str]] = OrderedDict()


def known_etag(search: Search, state: TopicState) -> str | None:
    """Return the tag that a merge would have now, if that is known without one."""
    known = _tags.get(_tag_key(search, state))
    return known[1] if known is not None and known[0] == _stamp(search, state) else None


def _stamp(search: Search, state: TopicState) -> object:
    progress = search.cluster.store.progress(state.key)
    return (state.compacted, tuple(sorted((partition, each.pack()) for partition, each in progress.items())))


def _tag_key(search: Search, state: TopicState) -> tuple[object, ...]:
    return (str(search.cluster.store.folder), state.key, search.filters)


def _remember(search: Search, state: TopicState, stamp: object, etag: str) -> None:
    _tags[_tag_key(search, state)] = (stamp, etag)
    while len(_tags) > _KNOWN_TAGS:
        _tags.popitem(last=False)
