"""Quota and capacity of the store: what is counted, and which topics may grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import lmdb
import pytest

from kafkaproxy.worker.store.capacity import StoreFull, is_disk_error, is_full, used_bytes
from kafkaproxy.worker.store.quota import held_bytes, shrink, total_bytes
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.writer import Batch, StoreWriter
from kafkaproxy.worker.types import Record, Role
from tests.unit.trimming import trim

LIMIT = 4 << 20
FETCH, STREAM, REPLY = Role.FETCH, Role.STREAM, Role.REPLY
ROLES = [{FETCH}, {STREAM}, {REPLY}, {FETCH, STREAM}, {FETCH, STREAM, REPLY}]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path, LIMIT)
    yield opened
    opened.close()


@pytest.fixture
def writer(store: Store) -> StoreWriter:
    made = StoreWriter(store, frozenset({"id"}))
    made.begin(b"session1", "localhost:9092")
    return made


def topic(number: int, roles: set[Role], *, compacted: bool = True) -> TopicState:
    return TopicState(name=f"t{number}", id=f"{number:032x}", partitions=1, roles=frozenset(roles), compacted=compacted)


def record(offset: int, key: str, size: int = 1000) -> Record:
    return Record(0, offset, offset, key.encode(), b"x" * size, ())


def write(writer: StoreWriter, state: TopicState, *records: Record, others: tuple[TopicState, ...] = ()) -> None:
    writer.apply({state.name: Batch(list(records), {})}, {each.name: each for each in (state, *others)})


def fill(writer: StoreWriter, growing: Iterable[TopicState], states: tuple[TopicState, ...], size: int, first: int = 0) -> int:
    """Write to topics in turn until one is refused; return how many rounds that took."""
    for number in range(1000):
        for state in growing:
            try:
                write(writer, state, record(first + number, f"k{first + number}", size), others=states)
            except StoreFull:
                return number
    raise AssertionError("It never became full.")


def held(store: Store, state: TopicState) -> int:
    with store.env.begin() as txn:
        return held_bytes(txn, store, state.key)


def stored(store: Store, state: TopicState) -> dict[int, int]:
    """Return offset → size of the rows in the records' database."""
    with store.env.begin(db=store.db("records")) as txn:
        return {int.from_bytes(key[-8:]): len(value) for key, value in txn.cursor() if key.startswith(state.key)}


@pytest.mark.parametrize("compacted", [True, False])
@pytest.mark.parametrize("roles", ROLES, ids=str)
def test_the_byte_count_is_the_size_of_the_records(
    store: Store, writer: StoreWriter, roles: set[Role], compacted: bool
) -> None:
    state = topic(1, roles, compacted=compacted)
    writer.start(state, {0: 0}, {0: 0})
    for offset in range(60):
        write(writer, state, record(offset, f"k{offset % 7}", 100 + offset))
        if offset % 20 == 10:
            while shrink(store, state, 2000):
                pass
        assert held(store, state) == sum(stored(store, state).values())
    trim(writer, state, 0, 50)
    assert held(store, state) == sum(stored(store, state).values())
    trim(writer, state, 0, 60)
    assert held(store, state) == 0
    assert stored(store, state) == {}


def test_only_live_records_of_the_evicted_part_stay(store: Store, writer: StoreWriter) -> None:
    state = topic(1, {FETCH, STREAM})
    writer.start(state, {0: 0}, {0: 0})
    write(writer, state, *(record(offset, f"k{offset}") for offset in range(20)))
    while shrink(store, state, 5000):
        pass
    complete_from = store.progress(state.key)[0].complete_from
    assert complete_from > 10
    assert stored(store, state).keys() == set(range(20))  # every key's newest
    write(writer, state, record(20, "k3"), record(21, "k19"))
    assert stored(store, state).keys() == {*range(22)} - {3}  # the log from complete_from on is complete


def test_every_topic_may_grow_until_the_store_is_crowded(store: Store, writer: StoreWriter) -> None:
    large, small = topic(1, {FETCH}), topic(2, {FETCH})
    writer.start(large, {0: 0}, {0: 0})
    writer.start(small, {0: 0}, {0: 0})
    written = fill(writer, (large,), (large, small), 10_000)
    with store.env.begin() as txn:
        assert LIMIT * 13 // 16 < used_bytes(txn, store) < LIMIT * 15 // 16
        assert total_bytes(txn, store) == held(store, large)
    assert max(stored(store, large)) == written - 1  # nothing of the refused batch is stored
    for offset in range(100):  # the other topic holds no more than the average
        write(writer, small, record(offset, f"k{offset}", 1000), others=(large,))
    assert len(stored(store, small)) == 100


def test_at_the_limit_no_topic_may_grow_and_other_writes_still_work(store: Store, writer: StoreWriter) -> None:
    states = tuple(topic(number, {FETCH}) for number in range(4))
    for state in states:
        writer.start(state, {0: 0}, {0: 0})
    fill(writer, states, states, 5000)
    fill(writer, states[-1:], states, 5000, first=1000)  # a topic that held no more than the average
    with store.env.begin() as txn:
        assert used_bytes(txn, store) < LIMIT * 17 // 16
    for _ in range(200):
        writer.put_states(states)
        store.add_interest("another", frozenset({FETCH}), 1.0)
    before = held(store, states[0])
    trim(writer, states[0], 0, 10_000)
    assert held(store, states[0]) < before
    write(writer, states[-1], record(3000, "again", 5000), others=states[:-1])


def test_a_batch_in_halves_reaches_its_ends_with_the_second() -> None:
    records = [record(offset, "k") for offset in range(5)]
    first, second = Batch(records, {0: 5, 1: 7}).halves()
    assert first.records + second.records == records
    assert (first.reached, second.reached) == ({}, {0: 5, 1: 7})


def test_other_errors_of_the_store_are_not_taken_for_a_full_one() -> None:
    assert not is_full(lmdb.CorruptedError("mdb_get"))
    assert not is_full(lmdb.BadTxnError("mdb_put"))
    assert is_full(lmdb.MapFullError("mdb_put"))
    assert not is_disk_error(lmdb.MapFullError("mdb_put"))
