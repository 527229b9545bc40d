"""Where a stream begins: after what the client saw last, or where the route starts new ones. Fixed before the response."""

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

__all__ = ["Start", "last_position", "resolve_start"]

_AGAIN_SECONDS: Final = 0.5
_POSITION_BYTES: Final = 1 << 17
"""The longest position that is read, whatever the setting says: it cannot be made shorter. 10,000 partitions fit, and few
servers take as much."""
_FEW: Final = 4096
"""How many partitions a position may name that are more than the topic has: it may be another topic by now."""
Offsets = Mapping[int, int]


@dataclass(slots=True)
class Start:
    """Where a stream begins."""

    position: dict[int, int]
    lost: list[dict[str, Any]] = field(default_factory=list)
    """What the client missed for good: partition, the offset it would have got next, and the one it gets instead."""


def last_position(request: Request, limit: int) -> dict[int, int] | None:
    """Return the position of ``last-event-id``, the field or else the query parameter; None for a new stream.

    An id that does not decode is 400 (D22): replaying everything, or nothing, would both be a lie. The limit is for ids with a
    key or an etag: those that are sent keep to it.
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
    """Return the first query parameter of that name; characters are bytes, as in fields."""
    if name.encode() not in query:
        return None
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    return next((value for each, value in pairs if each == name), None)


async def resolve_start(
    cluster: ClusterWorker, name: str, route: Route, last: Offsets | None, seconds: float
) -> tuple[TopicState, Start]:
    """Fix the position. It is Kafka's own word, not the store's, which may lag behind another instance."""
    deadline = time.monotonic() + seconds
    state = await cluster.ready(name, Role.STREAM, seconds)
    while (bounds := await _bounds(cluster, state, last)) is None:
        if time.monotonic() > deadline:
            raise TopicUnavailable(Unavailable.NOT_READ_YET)
        cluster.poll_metadata()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(cluster.hub().states_changed(), _AGAIN_SECONDS)
        state = await cluster.ready(name, Role.STREAM, seconds)
    earliest, latest = bounds
    if last is not None:
        if len(last) > max(len(earliest), _FEW):
            raise _too_long()
        return state, _resume(last, earliest, latest)
    match route.start:
        case "latest":
            return state, Start(dict(latest))
        case "timestamp":
            since = await cluster.offsets.ask(name, state.partitions, route.start_timestamp or 0)
            return state, Start({each: offset if offset >= 0 else latest[each] for each, offset in since.items()})
        case _:
            return state, Start(dict(earliest))


async def _bounds(cluster: ClusterWorker, state: TopicState, last: Offsets | None) -> tuple[Offsets, Offsets] | None:
    """Return where the partitions begin and end; None where Kafka has another log than the worker knows of.

    It grew, was cut short, or the topic was made anew: the worker will find out. While Kafka is away it is what the store
    knows, if that covers ``last``.
    """
    known = cluster.store.progress(state.key)  # before Kafka is asked: it cannot know less of the same log
    try:
        log = await cluster.offsets.bounds(state.name, state.partitions)
    except TopicUnavailable as error:
        return _stored(known, last, error) if error.reason is Unavailable.UNREACHABLE else None
    is_known = all(row.next_offset <= log.latest.get(each, 0) for each, row in known.items())
    has_grown = state.partitions <= max(last or (), default=-1) < log.partitions
    return (log.earliest, log.latest) if is_known and not has_grown and state.partitions <= log.partitions else None


def _stored(known: Mapping[int, Progress], last: Offsets | None, error: TopicUnavailable) -> tuple[Offsets, Offsets]:
    if last is not None and any(each not in known or last[each] > known[each].next_offset for each in last):
        raise error
    return {each: row.log_start for each, row in known.items()}, {each: row.next_offset for each, row in known.items()}


def _resume(last: Offsets, earliest: Offsets, latest: Offsets) -> Start:
    """Go on from the client's position. What is outside of the log was lost (D23), and never passed over in silence."""
    start = Start({})
    for partition, first in earliest.items():
        offset = last.get(partition, first)  # a partition that the id does not know is younger than the id
        if 0 <= offset < first or offset > latest[partition]:
            start.lost.append({"partition": partition, "from": offset, "to": first})
        start.position[partition] = offset if first <= offset <= latest[partition] else first
    start.lost += [{"partition": each, "from": last[each], "to": 0} for each in last if each not in earliest]
    return start
