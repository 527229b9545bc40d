"""Roles added to a topic while it is served: in the end the store serves what it would have served with them at once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kafkaproxy.worker.store.quota import held_bytes, shrink
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.writer import Batch, StoreWriter
from kafkaproxy.worker.types import Record, Role
from tests.unit.trimming import trim

CORRELATION = "zilla:correlation-id"
PARTITIONS = 2
ROLES = st.sets(st.sampled_from(list(Role)), min_size=1).map(frozenset)
KEYS = st.sampled_from([b"a", b"b", b"c", None])
VALUES = st.sampled_from([b"1", b"22", None])
RECORDS = st.lists(st.tuples(st.integers(0, PARTITIONS - 1), KEYS, VALUES, st.sampled_from(["", "x", "y"])), max_size=40)


@contextmanager
def opened(state: TopicState) -> Iterator[tuple[Store, StoreWriter]]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), 8 << 20)
        writer = StoreWriter(store, frozenset({CORRELATION}))
        writer.begin(b"session1", "localhost:9092")
        writer.start(state, dict.fromkeys(range(PARTITIONS), 0), {})
        try:
            yield store, writer
        finally:
            store.close()


def records(drawn: Sequence[tuple[int, bytes | None, bytes | None, str]]) -> list[Record]:
    made: list[Record] = []
    ends = dict.fromkeys(range(PARTITIONS), 0)
    for number, (partition, key, value, reply) in enumerate(drawn):
        headers = ((CORRELATION, reply.encode()),) if reply else ()
        made.append(Record(partition, ends[partition], number, key, value, headers))
        ends[partition] += 1
    return made


def write(writer: StoreWriter, state: TopicState, batch: Sequence[Record]) -> None:
    writer.apply({state.name: Batch(list(batch), {})}, {state.name: state})


def scanned(store: Store, state: TopicState) -> list[tuple[int, int]]:
    with store.env.begin(buffers=True, db=store.db("records")) as txn:
        return [(partition, offset) for partition, offset, _ in store.scan(txn, state)]


def size(store: Store, state: TopicState) -> int:
    with store.env.begin() as txn:
        return held_bytes(txn, store, state.key)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.booleans(), ROLES, ROLES, RECORDS, st.integers(0, 40), st.integers(1, 5), st.booleans(), st.integers(0, 3))
def test_added_roles_serve_what_they_would_have_served_from_the_beginning(
    compacted: bool,
    first: frozenset[Role],
    added: frozenset[Role],
    drawn: list[tuple[int, bytes | None, bytes | None, str]],
    cut: int,
    step: int,
    has_shrunk: bool,
    log_start: int,
) -> None:
    everything = records(drawn)
    before, after = everything[:cut], everything[cut:]
    state = TopicState(name="t", id="ab" * 16, partitions=PARTITIONS, compacted=compacted, roles=first, ready=True)
    whole = TopicState(name="t", id="ab" * 16, partitions=PARTITIONS, compacted=compacted, roles=first | added, ready=True)
    with opened(state) as (store, writer), opened(whole) as (reference, reference_writer):
        write(reference_writer, whole, everything)
        write(writer, state, before)
        while has_shrunk and shrink(store, state, 0):
            pass
        state = writer.add_roles(state, added)
        assert state.roles >= first | (added & {Role.STREAM})
        ends = store.next_offsets(state.key)
        again = [each for each in before if each.offset < ends[each.partition]]
        while again or after:  # new records and records that are read again alternate
            write(writer, state, after[:step])
            writer.backfill({"t": Batch(again[:step], {})}, {"t": state})
            after, again = after[step:], again[step:]
        for one, of in ((writer, state), (reference_writer, whole)):  # retention removes some of it
            for partition, end in reference.next_offsets(whole.key).items():
                trim(one, of, partition, min(log_start, end))
        state = writer.complete(state)
        assert (state.roles, state.building) == (first | added, frozenset())
        assert store.topics()["t"] == state
        if Role.FETCH in state.roles:
            assert_fetches_alike(store, reference, state)
        if Role.REPLY in state.roles:
            assert_replies(store, reference, state, [each for each in everything if each.offset >= log_start])
        if state.keeps_all:
            assert_holds_the_log(store, reference, state)


def assert_fetches_alike(store: Store, reference: Store, state: TopicState) -> None:
    for key in (b"a", b"b", b"c"):
        assert store.latest(state.key, key) == reference.latest(state.key, key)
    assert scanned(store, state) == scanned(reference, state)


def assert_replies(store: Store, reference: Store, state: TopicState, retained: Sequence[Record]) -> None:
    for each in (b"x", b"y"):
        found = store.reply(state.key, each)
        assert (found is None) == (reference.reply(state.key, each) is None)
        if found is not None:  # with several, the first of its partition
            ours = [record for record in retained if dict(record.headers).get(CORRELATION) == each]
            assert found == next(record for record in ours if record.partition == found.partition)


def assert_holds_the_log(store: Store, reference: Store, state: TopicState) -> None:
    assert size(store, state) == size(reference, state)
    for partition, progress in store.progress(state.key).items():
        assert progress.complete_from == progress.log_start
        limits = (state.key, partition, 0, 100, 100, 1 << 20)
        assert store.read(*limits) == reference.read(*limits)
