"""Streams that stand still: where a client is, by the id of what was delivered to it, against where Kafka's log ends.

A stream may be quiet because there is nothing, or because something is stuck; only Kafka can say which.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kafkaproxy.core.eventids import parse_event_id
from tests.kafka import Cluster
from tests.support.streams import Event, EventStream

__all__ = ["missing", "read_to_end", "watch"]

PATIENCE = 60.0
"""How long a partition may stand still before it is called stuck: what is stuck stays so, and what a busy machine starves moves
again."""
Offsets = Mapping[int, int]


def missing(position: Offsets, ends: Offsets) -> dict[int, tuple[int, int]]:
    """Return what was not delivered: partition → the offset that comes next, and the end."""
    return {each: (position.get(each, 0), end) for each, end in ends.items() if position.get(each, 0) < end}


async def watch(kafka: Cluster, topic: str, clients: Mapping[str, Callable[[], Offsets]], work: asyncio.Future[Any]) -> None:
    """Fail as soon as a partition stands still for long before its end, at any client, until ``work`` is done."""
    seen: dict[tuple[str, int], tuple[int, float]] = {}
    while not work.done():
        ends = await asyncio.to_thread(kafka.ends, topic)
        for name, position in clients.items():
            behind = missing(position(), ends)
            _fail_if_stuck(seen, name, behind)
        await asyncio.wait((work,), timeout=0.5)


def _fail_if_stuck(seen: dict[tuple[str, int], tuple[int, float]], name: str, behind: dict[int, tuple[int, int]]) -> None:
    now = time.monotonic()
    for key in [key for key in seen if key[0] == name and key[1] not in behind]:
        del seen[key]
    for partition, (offset, _) in behind.items():
        before, since = seen.get((name, partition), (-1, now))
        if before == offset and now - since > PATIENCE:
            pytest.fail(f"{name} stays behind: it misses, by partition, {behind}")
        seen[name, partition] = (offset, since if before == offset else now)


async def read_to_end(s: EventStream, kafka: Cluster, topic: str) -> list[Event]:
    """Return the events up to where Kafka's log ends now; fail, with what is missing, if they do not come."""
    ends = await asyncio.to_thread(kafka.ends, topic)
    events = s.arrived()
    deadline = time.monotonic() + PATIENCE
    while behind := missing(parse_event_id(s.last_event_id) if s.last_event_id else {}, ends):
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                more = await s.more()
        except TimeoutError:
            more = False
        if not more:
            pytest.fail(f"the stream stays behind: it misses, by partition, {behind}; the last it sent: {s.body[-200:]!r}")
        if came := s.arrived():
            events += came
            deadline = time.monotonic() + PATIENCE
    return events
