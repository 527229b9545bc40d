"""The start position of a stream: after the client's last event, or by the route. Determined before the response begins."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from kafkaproxy.core.eventids import BadEventId, is_position, parse_event_id
from kafkaproxy.http.problems import Problem
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import Route
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.store.reader import Progress, TopicState
from kafkaproxy.worker.types import Role

__all__ = ["StartPosition", "last_event_position", "resolve_start_position"]

_RETRY_SECONDS: Final = 0.5
_POSITION_BYTES: Final = 1 << 17
"""The longest position that is accepted, even if the setting is lower: a position cannot be shortened.

10,000 partitions fit; few servers accept a longer field.
"""
_MAX_PARTITIONS: Final = 4096
"""How many partitions a position may name, if the topic has fewer: it may have been re-created with fewer."""
Offsets = Mapping[int, int]


@dataclass(slots=True)
class StartPosition:
    """Where a stream begins: partition → next offset."""

    offsets: dict[int, int]
    lost: list[dict[str, Any]] = field(default_factory=list)
    """The records that Kafka no longer has: ``partition``, ``from`` (the client's next offset), ``to`` (where it continues)."""


def last_event_position(request: Request, limit: int) -> dict[int, int] | None:
    """Return the position in ``last-event-id``, from the field or else the query parameter; None for a new stream.

    Raises a 400 :class:`Problem` for an id that cannot be decoded (D22): neither all records nor none would be right. ``limit``
    is the longest id with a key or an etag, which the ids that streams send keep to.
    """
    field = request.field(b"last-event-id")
    given = _parameter(request.query, "lastEventId") if field is None else field.decode("latin-1")
    if not given:
        return None
    if len(given) > (max(limit, _POSITION_BYTES) if is_position(given) else limit):
        raise _too_long()
    try:
        return parse_event_id(given)
    except BadEventId as error:
        detail = f"The last event id is not one of this site's. {error} Open the stream without it to start anew."
        raise Problem(400, "bad-event-id", detail) from None


def _too_long() -> Problem:
    return Problem(400, "event-id-too-long", "The last event id is longer than any of this site's: open the stream without it.")


def _parameter(query: bytes, name: str) -> str | None:
    """Return the first query parameter of that name, decoded as Latin-1, as fields are; None without one."""
    if name.encode() not in query:
        return None
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    return next((value for each, value in pairs if each == name), None)


async def resolve_start_position(
    cluster: ClusterWorker, name: str, route: Route, last: Offsets | None, seconds: float
) -> tuple[TopicState, StartPosition]:
    """Return the topic and the start position; raise :class:`TopicUnavailable` after ``seconds``.

    By the offsets that Kafka has, not by the store: it may lag behind the store of the instance that the client came from.
    """
    deadline = time.monotonic() + seconds
    state = await cluster.ready(name, Role.STREAM, seconds)
    while (bounds := await _bounds(cluster, state, last)) is None:
        if time.monotonic() > deadline:
            raise TopicUnavailable(Unavailable.NOT_READ_YET)
        cluster.poll_metadata()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(cluster.hub().states_changed(), _RETRY_SECONDS)
        state = await cluster.ready(name, Role.STREAM, seconds)
    earliest, latest = bounds
    if last is not None:
        if len(last) > max(len(earliest), _MAX_PARTITIONS):
            raise _too_long()
        return state, _resume(last, earliest, latest)
    match route.start:
        case "latest":
            return state, StartPosition(dict(latest))
        case "timestamp":
            since = await cluster.offsets.ask(name, state.partitions, route.start_timestamp or 0)
            return state, StartPosition({each: offset if offset >= 0 else latest[each] for each, offset in since.items()})
        case _:
            return state, StartPosition(dict(earliest))


async def _bounds(cluster: ClusterWorker, state: TopicState, last: Offsets | None) -> tuple[Offsets, Offsets] | None:
    """Return first and next offset by partition; None if Kafka's log does not fit what the worker knows.

    The topic has more partitions, was truncated, or was re-created: call again when the worker has noticed. While Kafka cannot
    be reached these are the store's offsets, if they cover ``last``.
    """
    known = cluster.store.progress(state.key)  # read before Kafka is asked, so that Kafka's offsets are not older
    try:
        log = await cluster.offsets.bounds(state.name, state.partitions)
    except TopicUnavailable as error:
        return _stored_bounds(known, last, error) if error.reason is Unavailable.UNREACHABLE else None
    is_known = all(row.next_offset <= log.latest.get(each, 0) for each, row in known.items())
    has_grown = state.partitions <= max(last or (), default=-1) < log.partitions
    return (log.earliest, log.latest) if is_known and not has_grown and state.partitions <= log.partitions else None


def _stored_bounds(known: Mapping[int, Progress], last: Offsets | None, error: TopicUnavailable) -> tuple[Offsets, Offsets]:
    if last is not None and any(each not in known or last[each] > known[each].next_offset for each in last):
        raise error
    return {each: row.log_start for each, row in known.items()}, {each: row.next_offset for each, row in known.items()}


def _resume(last: Offsets, earliest: Offsets, latest: Offsets) -> StartPosition:
    """Continue at the client's position. Offsets outside of the log are reported as lost (D23), never skipped silently."""
    start = StartPosition({})
    for partition, first in earliest.items():
        offset = last.get(partition, first)  # the partition was added after the id was sent
        if 0 <= offset < first or offset > latest[partition]:
            start.lost.append({"partition": partition, "from": offset, "to": first})
        start.offsets[partition] = offset if first <= offset <= latest[partition] else first
    start.lost += [{"partition": each, "from": last[each], "to": 0} for each in last if each not in earliest]
    return start
