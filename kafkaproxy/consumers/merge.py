"""Merged fetch: all records that match as one JSON array (the contract, *Merge*).

The array is written from one snapshot of the store into a spooled file (:mod:`kafkaproxy.consumers.spool`): memory stays
bounded whatever the size of the topic, the snapshot is not held while a slow client reads, and the length and the tag are
known before the first byte.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import IO, Final

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.context import Exchange
from kafkaproxy.consumers.fetch import Search, conditions, skip_body
from kafkaproxy.consumers.responses import applied, response_fields
from kafkaproxy.consumers.spool import Merged, Merging, known_etag
from kafkaproxy.consumers.waiting import Waiting
from kafkaproxy.core.etags import Validator
from kafkaproxy.http.problems import Fields, Problem
from kafkaproxy.http.request import Responder
from kafkaproxy.metrics import MERGE_SKIPPED
from kafkaproxy.worker.worker import Worker

__all__ = ["fetch_merged"]

_CHUNK: Final = 1 << 16


async def fetch_merged(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Serve every record that matches."""
    request = exchange.request
    await skip_body(request)
    validator, preferences = conditions(request)
    search = Search(exchange, worker, settings)
    fields = [(b"content-type", b"application/json"), *response_fields(exchange.match.route), *applied(preferences)]
    known = known_etag(search, await search.state()) if validator is not None and not preferences.wait else None
    if known is not None and validator is not None and validator.matches(known):
        await responder.respond(304, [(b"etag", known.encode()), *fields])
        return
    skipped = MERGE_SKIPPED.cell(exchange.match.gateway.name, exchange.match.route.name)
    with Merging(search, worker, settings, skipped) as merging:
        async with request.cancel_on_disconnect():
            merged = await merging.make()
        if preferences.wait and not _is_new(merged, validator):
            merging.drop()
            patience = Waiting(request, worker, settings, preferences.wait)
            try:
                merged = await patience.run(_until_new(search, merging, validator))
            except TimeoutError:  # what is there then
                async with request.cancel_on_disconnect():
                    merged = await merging.make()
        fields.insert(0, (b"etag", merged.etag.encode()))
        if validator is not None and validator.matches(merged.etag):
            await responder.respond(304, fields)
        else:
            async with request.cancel_on_disconnect():
                await _send(merged, fields, settings, responder)


def _is_new(merged: Merged, validator: Validator | None) -> bool:
    return not validator.matches(merged.etag) if validator is not None else not merged.empty


async def _until_new(search: Search, merging: Merging, validator: Validator | None) -> Merged:
    """Wait for a merge that the client does not have."""
    with search.cluster.hub().change(search.topic) as changed:
        while True:
            changed.clear()
            begun = time.monotonic()
            merged = await merging.make()
            if _is_new(merged, validator):
                return merged
            merging.drop()  # while nothing changes others may have the place
            took = time.monotonic() - begun
            await changed.wait()
            # A topic that never pauses changes with every commit: spend half of the time at most on merging it.
            await asyncio.sleep(took)


async def _send(merged: Merged, fields: Fields, settings: Settings, responder: Responder) -> None:
    fields.append((b"content-length", str(merged.length).encode()))
    try:
        async with asyncio.timeout(None) as patience:
            pieces = _pieces(merged.body, patience, settings.stream_send_timeout_seconds)
            await responder.stream(200, fields, pieces)
    except TimeoutError:  # too late for a status; but the connection is cut, and the file gone
        raise Problem(503, "not-read", "The answer was left unread for too long. Ask again.") from None


async def _pieces(body: IO[bytes], patience: asyncio.Timeout, seconds: float) -> AsyncIterator[bytes]:
    """Yield the file in chunks, from memory or from the page cache; each has to be taken in ``seconds``."""
    loop = asyncio.get_running_loop()
    while piece := body.read(_CHUNK):
        patience.reschedule(loop.time() + seconds)
        yield piece
