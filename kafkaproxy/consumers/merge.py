"""Merged fetch: all records that match as one JSON array (the contract, section *Fetch*, *Merge*).

The array is written from one snapshot of the store into a spooled file, in a thread: memory stays bounded whatever the size
of the topic, the snapshot is not held while a slow client reads, and the length and the tag are known before the first byte.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import struct
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import IO, Final

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.context import Exchange
from kafkaproxy.consumers.fetch import Search, conditions, skip_body
from kafkaproxy.consumers.http import Responder
from kafkaproxy.consumers.responses import applied, response_fields
from kafkaproxy.consumers.waiting import Waiting
from kafkaproxy.core.etags import Validator, fingerprint, merge_etag
from kafkaproxy.core.jsontext import is_json
from kafkaproxy.worker.codec import decode_record
from kafkaproxy.worker.store import TopicState
from kafkaproxy.worker.worker import Worker

__all__ = ["fetch_merged"]

log = logging.getLogger("kafkaproxy.fetch")

_IN_MEMORY: Final = 1 << 20
_CHUNK: Final = 1 << 16
_MEMBER: Final = struct.Struct(">IQ")
_KNOWN_TAGS: Final = 1024


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge at one instant. ``body`` is positioned at its start."""

    etag: str
    empty: bool
    length: int
    body: IO[bytes]


async def fetch_merged(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Serve every record that matches."""
    await skip_body(exchange.request)
    validator, preferences = conditions(exchange.request)
    search = Search(exchange, worker, settings)
    route = exchange.match.route
    fields = [
        (b"content-type", b"application/json"),
        *response_fields(route),
        *applied(preferences),
    ]
    known = _known_etag(search, await search.state()) if validator is not None and not preferences.wait else None
    if known is not None and validator is not None and validator.matches(known):
        await responder.respond(304, [(b"etag", known.encode()), *fields])
        return
    merged = await _merge(search)
    if preferences.wait and not _is_new(merged, validator):
        merged.body.close()
        waiting = Waiting(exchange.request, worker, settings, preferences.wait)
        merged = await _wait(waiting, search, validator)
    with merged.body:
        fields.insert(0, (b"etag", merged.etag.encode()))
        if validator is not None and validator.matches(merged.etag):
            await responder.respond(304, fields)
            return
        fields.append((b"content-length", str(merged.length).encode()))
        await responder.stream(200, fields, _pieces(merged.body))


def _is_new(merged: Merged, validator: Validator | None) -> bool:
    return not validator.matches(merged.etag) if validator is not None else not merged.empty


async def _wait(waiting: Waiting, search: Search, validator: Validator | None) -> Merged:
    """Wait for a merge that the client does not have; at the end of the time return what is there."""

    async def until_new() -> Merged:
        with search.cluster.hub().change(search.topic) as changed:
            while True:
                changed.clear()
                merged = await _merge(search)
                if _is_new(merged, validator):
                    return merged
                merged.body.close()
                await changed.wait()

    try:
        return await waiting.run(until_new())
    except TimeoutError:
        return await _merge(search)


async def _merge(search: Search) -> Merged:
    while True:
        state = await search.state()
        merged = await asyncio.get_running_loop().run_in_executor(search.cluster.pool, _write, search, state)
        if search.cluster.holds(state):
            return merged
        merged.body.close()


def _write(search: Search, state: TopicState) -> Merged:
    """Write the array and take its tag, both from one transaction."""
    stamp = _stamp(search, state)
    body: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by whoever sends it
    digest = hashlib.blake2b(digest_size=8)
    empty = True
    skipped = 0
    body.write(b"[")
    for partition, offset, value in _members(search, state):
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
    etag = merge_etag(fingerprint(state.key), digest.digest())
    if stamp == _stamp(search, state):  # nothing was written meanwhile, so the tag belongs to the stamp
        _remember(search, state, stamp, etag)
    return Merged(etag, empty, length, body)


def _members(search: Search, state: TopicState) -> Iterator[tuple[int, int, bytes]]:
    """Yield the records of the merge: live if compacted, filtered, neither null nor empty."""
    store = search.cluster.store
    with store.env.begin(buffers=True, db=store.db("records")) as txn:
        for partition, offset, data in store.scan(txn, state):
            record = decode_record(partition, offset, data)
            if record.value and search.matches(record):
                yield partition, offset, record.value


async def _pieces(body: IO[bytes]) -> AsyncIterator[bytes]:
    """Yield the file in chunks: from memory, or from the page cache."""
    while piece := body.read(_CHUNK):
        yield piece


# What a merge's tag was when the topic was last read for it; a poll of an unchanged topic then reads nothing.
_tags: OrderedDict[tuple[object, ...], tuple[object, str]] = OrderedDict()


def _stamp(search: Search, state: TopicState) -> object:
    progress = search.cluster.store.progress(state.key)
    return (state.compacted, tuple(sorted((partition, each.pack()) for partition, each in progress.items())))


def _tag_key(search: Search, state: TopicState) -> tuple[object, ...]:
    return (str(search.cluster.store.folder), state.key, search.filters)


def _known_etag(search: Search, state: TopicState) -> str | None:
    known = _tags.get(_tag_key(search, state))
    return known[1] if known is not None and known[0] == _stamp(search, state) else None


def _remember(search: Search, state: TopicState, stamp: object, etag: str) -> None:
    _tags[_tag_key(search, state)] = (stamp, etag)
    while len(_tags) > _KNOWN_TAGS:
        _tags.popitem(last=False)
