"""Fetch: GET and HEAD return the newest record that matches (the contract, *Fetch*)."""

from __future__ import annotations

import asyncio
from functools import lru_cache

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.context import Exchange, render_topic
from kafkaproxy.consumers.responses import cache_fields, preference_applied
from kafkaproxy.consumers.waiting import BoundedWait
from kafkaproxy.core.etags import IfNoneMatch, fingerprint, parse_if_none_match, record_etag
from kafkaproxy.core.expressions import RenderContext
from kafkaproxy.core.fields import is_field_value
from kafkaproxy.core.prefer import NO_PREFERENCES, Preferences, parse_prefer
from kafkaproxy.http.problems import Fields, Problem
from kafkaproxy.http.request import Request, Responder
from kafkaproxy.routing.table import Filter
from kafkaproxy.worker.filters import RecordFilter, passes
from kafkaproxy.worker.store.codec import decode_header
from kafkaproxy.worker.store.reader import TopicState
from kafkaproxy.worker.types import Record, Role
from kafkaproxy.worker.worker import Worker

__all__ = ["RecordSearch", "fetch", "read_conditions", "render_filters", "skip_body"]

_fingerprint = lru_cache(maxsize=1024)(fingerprint)


def render_filters(filters: tuple[Filter, ...], context: RenderContext) -> tuple[RecordFilter, ...]:
    """Render the templates of the filters."""
    return tuple(
        RecordFilter(
            None if each.key is None else each.key.render(context).encode(),
            tuple((name, value.render(context).encode()) for name, value in each.headers),
        )
        for each in filters
    )


async def fetch(exchange: Exchange, worker: Worker, settings: Settings, responder: Responder) -> None:
    """Respond with one record."""
    await skip_body(exchange.request)
    validator, preferences = read_conditions(exchange.request)
    search = RecordSearch(exchange, worker, settings)
    generation = search.cluster.cache_generation(
        search.topic
    )  # before the record is read: a change meanwhile invalidates the entry
    state, record = await search.newest()
    if exchange.cache is not None and search.is_keyed and record is not None and record.value:
        fields = _representation_fields(exchange, state, record)
        exchange.cache.put(exchange, search.cluster, search.topic, generation, fields, record.value)
    if preferences.wait and not _is_new(state, record, validator):
        wait = BoundedWait(exchange.request, worker, settings, preferences.wait)
        state, record = await _wait_until_new(wait, search, validator)
    await _answer(exchange, responder, state, record, validator, preferences)


async def skip_body(request: Request) -> None:
    """Discard the body, if the request's fields announce one."""
    if request.field(b"content-length") is not None or request.field(b"transfer-encoding") is not None:
        await request.skip_body()


def read_conditions(request: Request) -> tuple[IfNoneMatch | None, Preferences]:
    """Parse ``if-none-match`` and ``prefer``."""
    validator: IfNoneMatch | None = None
    preferences = NO_PREFERENCES
    for name, _ in request.fields:
        if name == b"if-none-match":
            validator = parse_if_none_match(request.lines(name))
        elif name == b"prefer":
            preferences = parse_prefer(request.lines(name))
    return validator, preferences


class RecordSearch:
    """How one request finds its record: by key if every filter has one, else by a scan of the topic's records."""

    __slots__ = ("_request", "_settings", "cluster", "filters", "is_keyed", "topic")

    def __init__(self, exchange: Exchange, worker: Worker, settings: Settings) -> None:
        route, context = exchange.match.route, exchange.context
        self.cluster = worker.cluster(route.cluster)
        self.topic = render_topic(route.topic, context)
        self._request = exchange.request
        self._settings = settings
        self.filters = render_filters(route.filters, context)
        self.is_keyed = bool(self.filters) and all(each.key is not None for each in self.filters)

    @property
    def single_key(self) -> bytes | None:
        """The only key that the filters have; None for several keys or none."""
        keys = {each.key for each in self.filters} if self.is_keyed else set()
        return keys.pop() if len(keys) == 1 else None

    async def state(self) -> TopicState:
        """Return the topic as soon as it can be served; raise ``ClientGone`` if the client disconnects before.

        Raises :class:`TopicUnavailable` after the setting ``READY_TIMEOUT_SECONDS``.
        """
        if (ready := self.cluster.topic(self.topic, Role.FETCH)) is not None:
            return ready
        async with self._request.cancel_on_disconnect():
            return await self.cluster.ready(self.topic, Role.FETCH, self._settings.ready_timeout_seconds)

    async def newest(self) -> tuple[TopicState, Record | None]:
        """Return the topic and the newest record that matches, which may be a tombstone; None without one."""
        while True:
            state = await self.state()
            record = self._by_key(state) if self.is_keyed else await self._by_scan(state)
            if (self.is_keyed and record is not None) or self.cluster.is_unchanged(state):
                return state, record

    async def _by_scan(self, state: TopicState) -> Record | None:
        # In a thread: the time for a scan grows with the topic, and would block the event loop.
        store, scans = self.cluster.store, self.cluster.scans
        return await asyncio.get_running_loop().run_in_executor(scans, store.newest, state, self.matches)

    def matches(self, record: Record) -> bool:
        """True if any filter matches the record, or if there are no filters."""
        return passes(self.filters, record)

    def _by_key(self, state: TopicState) -> Record | None:
        best: Record | None = None
        for each in self.filters:
            record = self.cluster.store.latest(state.key, each.key or b"")
            if record is not None and each.matches(record) and (best is None or record.timestamp > best.timestamp):
                best = record
        return best


def _is_new(state: TopicState, record: Record | None, validator: IfNoneMatch | None) -> bool:
    """True if the client does not have this record yet. A tombstone is new: the client may have the deleted record."""
    if record is None:
        return False
    if validator is None or record.value is None:
        return True
    return not validator.matches(_etag(state, record))


async def _wait_until_new(
    wait: BoundedWait, search: RecordSearch, validator: IfNoneMatch | None
) -> tuple[TopicState, Record | None]:
    """Wait until the record is new to the client; after the time return the record as it is."""

    async def until_new() -> tuple[TopicState, Record | None]:
        with search.cluster.hub().change(search.topic, search.single_key) as changed:
            while True:
                changed.clear()
                state, record = await search.newest()
                if _is_new(state, record, validator):
                    return state, record
                await changed.wait()

    try:
        return await wait.run(until_new())
    except TimeoutError:
        return await search.newest()


async def _answer(
    exchange: Exchange,
    responder: Responder,
    state: TopicState,
    record: Record | None,
    validator: IfNoneMatch | None,
    preferences: Preferences,
) -> None:
    if record is None or record.value is None:
        raise Problem(
            404,
            "no-record",
            "There is no record here, or it was deleted. Write one first, or wait for one with prefer: wait=N.",
            preference_applied(preferences),
        )
    fields = _representation_fields(exchange, state, record) + preference_applied(preferences)
    if validator is not None and validator.matches(_etag(state, record)):
        await responder.respond(304, [field for field in fields if field[0] != b"content-type"])
        return
    if record.value:
        await responder.respond(200, fields, record.value)
    else:
        await responder.respond(204, fields)


def _representation_fields(exchange: Exchange, state: TopicState, record: Record) -> Fields:
    """Return the fields of a 200. Of a record's headers, clients get only ``content-type`` and ``etag``."""
    match = exchange.match
    fields = [(b"etag", _etag(state, record).encode()), *cache_fields(match.route)]
    content_type = decode_header(record.headers, "content-type")
    if content_type and is_field_value(content_type):
        fields.append((b"content-type", content_type))
    return fields


def _etag(state: TopicState, record: Record) -> str:
    own = decode_header(record.headers, "etag")
    text = None if own is None else own.decode("utf-8", "backslashreplace")
    return record_etag(_fingerprint(state.key), record.partition, record.offset, text)
