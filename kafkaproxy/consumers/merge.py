"""Merged fetch: all records that match as one JSON array (the contract, *Merge*).

The array is written from one snapshot of the store into a temporary file (:mod:`kafkaproxy.consumers.merge_file`). So memory
is bounded for a topic of any size, the snapshot is not held open while a slow client reads, and length and ``etag`` are known
before the first byte is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import IO, Final

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.context import Exchange
from kafkaproxy.consumers.fetch import RecordSearch, read_conditions, skip_body
from kafkaproxy.consumers.merge_file import MergeFile, MergeResult, cached_etag
from kafkaproxy.consumers.responses import cache_fields, preference_applied
from kafkaproxy.consumers.waiting import BoundedWait
from kafkaproxy.core.etags import IfNoneMatch
from kafkaproxy.http.problems import Fields, Problem
from kafkaproxy.http.request import Responder
from kafkaproxy.metrics import MERGE_SKIPPED
from kafkaproxy.worker.worker import Worker

__all__ = ["fetch_merged"]

_CHUNK: Final = 1 << 16


async def fetch_merged(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Respond with every record that matches."""
    request = exchange.request
    await skip_body(request)
    validator, preferences = read_conditions(request)
    search = RecordSearch(exchange, worker, settings)
    fields = [(b"content-type", b"application/json"), *cache_fields(exchange.match.route), *preference_applied(preferences)]
    known = cached_etag(search, await search.state()) if validator is not None and not preferences.wait else None
    if known is not None and validator is not None and validator.matches(known):
        await responder.respond(304, [(b"etag", known.encode()), *fields])
        return
    skipped = MERGE_SKIPPED.cell(exchange.match.gateway.name, exchange.match.route.name)
    with MergeFile(search, worker, settings, skipped) as file:
        async with request.cancel_on_disconnect():
            merged = await file.make()
        if preferences.wait and not _is_new(merged, validator):
            file.drop()
            wait = BoundedWait(request, worker, settings, preferences.wait)
            try:
                merged = await wait.run(_until_new(search, file, validator))
            except TimeoutError:  # respond with the array as it is then
                async with request.cancel_on_disconnect():
                    merged = await file.make()
        fields.insert(0, (b"etag", merged.etag.encode()))
        if validator is not None and validator.matches(merged.etag):
            await responder.respond(304, fields)
        else:
            async with request.cancel_on_disconnect():
                await _send(merged, fields, settings, responder)


def _is_new(merged: MergeResult, validator: IfNoneMatch | None) -> bool:
    return not validator.matches(merged.etag) if validator is not None else not merged.empty


async def _until_new(search: RecordSearch, file: MergeFile, validator: IfNoneMatch | None) -> MergeResult:
    """Merge again after each change, until the result is new to the client."""
    with search.cluster.hub().change(search.topic) as changed:
        while True:
            changed.clear()
            begun = time.monotonic()
            merged = await file.make()
            if _is_new(merged, validator):
                return merged
            file.drop()  # frees the slot for other requests while nothing changes
            took = time.monotonic() - begun
            await changed.wait()
            # A busy topic changes with every commit: at most half of the time goes into merging it.
            await asyncio.sleep(took)


async def _send(merged: MergeResult, fields: Fields, settings: Settings, responder: Responder) -> None:
    fields.append((b"content-length", str(merged.length).encode()))
    try:
        async with asyncio.timeout(None) as deadline:
            chunks = _chunks(merged.body, deadline, settings.stream_send_timeout_seconds)
            await responder.stream(200, fields, chunks)
    except TimeoutError:  # the status is sent already; the error closes the connection and removes the file
        raise Problem(503, "not-read", "The answer was left unread for too long. Ask again.") from None


async def _chunks(body: IO[bytes], deadline: asyncio.Timeout, seconds: float) -> AsyncIterator[bytes]:
    """Yield the file in chunks. The client has ``seconds`` to read each: every chunk moves the deadline."""
    loop = asyncio.get_running_loop()
    while chunk := body.read(_CHUNK):
        deadline.reschedule(loop.time() + seconds)
        yield chunk
