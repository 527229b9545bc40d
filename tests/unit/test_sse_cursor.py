"""Catching up with the live end when neither the store nor Kafka has the next record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafkaproxy.streaming import catch_up
from kafkaproxy.streaming.broadcast import Framing
from kafkaproxy.streaming.catch_up import CatchUpReader
from kafkaproxy.streaming.tail import StreamTail
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.writer import StoreWriter
from kafkaproxy.worker.types import Record, Role
from tests.support.streams import parse_events

STATE = TopicState(name="t", id="0123456789abcdef" * 2, partitions=1, roles=frozenset({Role.STREAM}), ready=True)


class FakeCluster:
    """A worker whose Kafka holds ``log``, from ``earliest`` on."""

    def __init__(self, store: Store, log: int, earliest: int = 0) -> None:
        self.store = store
        self.log = log
        self.earliest = earliest
        self.looks = 0
        self.history = self.offsets = self

    async def read(self, _topic: str, partition: int, start: int, end: int) -> tuple[list[Record], int] | None:
        if not self.earliest <= start <= self.log:
            return None
        end = min(end, self.log)
        return [Record(partition, offset, 0, None, b"%d" % offset, ()) for offset in range(start, end)], end

    async def ask(self, _topic: str, partitions: int, _spec: str) -> dict[int, int]:
        return dict.fromkeys(range(partitions), self.earliest)

    def poll_metadata(self) -> None:
        self.looks += 1


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that has dropped the first hundred records."""
    monkeypatch.setattr(catch_up, "_RETRY_SECONDS", 0)
    opened = Store(tmp_path, 64 << 20)
    writer = StoreWriter(opened, frozenset())
    writer.begin(b"session1", "localhost:9092")
    writer.start(STATE, {0: 100}, {0: 0})
    yield opened
    opened.close()


def begin(cluster: Any) -> tuple[CatchUpReader, StreamTail]:
    tail = StreamTail(STATE.key, cluster.store.next_offsets(STATE.key))
    cursor = CatchUpReader(cluster, "t", STATE.key, {0: 50}, ((), Framing(keyed=False, as_base64=False)))
    cursor.enter(tail)
    return cursor, tail


async def test_a_log_that_ends_before_the_cursor_is_asked_again_until_it_does_not(store: Store) -> None:
    cluster = FakeCluster(store, log=40)
    cursor, tail = begin(cluster)
    for times in (1, 2, 3):
        assert await cursor.read(tail) == b""
        assert cluster.looks == times  # the writer is told that something is wrong
    cluster.log = 100
    frames = await cursor.read(tail)
    assert frames is not None
    assert [int(event.data) for event in parse_events(frames)] == list(range(50, 100))
    assert cursor.at(tail)


async def test_what_neither_has_any_more_is_a_gap(store: Store) -> None:
    cluster = FakeCluster(store, log=100, earliest=90)
    cursor, tail = begin(cluster)
    (gap,) = parse_events(await cursor.read(tail) or b"")
    assert (gap.type, gap.data) == ("gap", '{"lost":[{"partition":0,"from":50,"to":90}]}')
    assert len(parse_events(await cursor.read(tail) or b"")) == 10
    assert cluster.looks == 0
