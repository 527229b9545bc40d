"""The store compared with a model of it, and its guarantees to processes and threads that share it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kafkaproxy.worker.store import writer as writing
from kafkaproxy.worker.store.reader import Store, TopicState, current_path
from kafkaproxy.worker.store.writer import Batch, StoreWriter, reset_stale_readiness
from kafkaproxy.worker.store.writer_lock import WriterLock
from kafkaproxy.worker.types import Record, Role
from tests.unit.trimming import trim

ID = "0123456789abcdef" * 2
OTHER_ID = "fedcba9876543210" * 2
SERVERS = "localhost:9092"
CORRELATION = "zilla:correlation-id"
MEGABYTE = 1 << 20


def topic(name: str = "t", topic_id: str = ID, **more: object) -> TopicState:
    values = {"partitions": 2, "roles": frozenset({Role.FETCH}), "ready": True, **more}
    return TopicState(name=name, id=topic_id, **values)  # type: ignore[arg-type]


def record(partition: int, offset: int, key: bytes | None = b"k", value: bytes | None = b"v", **more: object) -> Record:
    timestamp, headers = more.get("timestamp", offset), more.get("headers", ())
    return Record(partition, offset, timestamp, key, value, headers)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path, 64 * MEGABYTE)
    yield opened
    opened.close()


@pytest.fixture
def writer(store: Store) -> StoreWriter:
    made = StoreWriter(store, frozenset({CORRELATION}))
    made.begin(b"session1", SERVERS)
    return made


def apply(writer: StoreWriter, state: TopicState, *records: Record, **reached: int) -> None:
    batch = Batch(list(records), {int(partition[1:]): offset for partition, offset in reached.items()})
    writer.apply({state.name: batch}, {state.name: state})


def scanned(store: Store, state: TopicState) -> list[tuple[int, int]]:
    with store.env.begin(buffers=True, db=store.db("records")) as txn:
        return [(partition, offset) for partition, offset, _ in store.scan(txn, state)]


# Against a model


@dataclass
class Model:
    """What the store has to answer, kept in plain lists."""

    state: TopicState
    records: dict[tuple[int, int], Record] = field(default_factory=dict)
    replies: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    next: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})

    def apply(self, records: list[Record]) -> None:
        for each in records:
            self.records[each.partition, each.offset] = each
            self.next[each.partition] = each.offset + 1
            for name, value in each.headers:
                if name == CORRELATION and value is not None:
                    self.replies.setdefault(value, (each.partition, each.offset))

    def trim(self, partition: int, log_start: int) -> None:
        self.records = {at: each for at, each in self.records.items() if at[0] != partition or at[1] >= log_start}
        self.replies = {name: at for name, at in self.replies.items() if at in self.records}
        self.next[partition] = max(self.next[partition], log_start)

    def newest(self, key: bytes) -> Record | None:
        last = [
            max((r for at, r in self.records.items() if at[0] == p and r.key == key), key=lambda r: r.offset, default=None)
            for p in (0, 1)
        ]
        there = [each for each in last if each is not None]
        return max(there, key=lambda each: (each.timestamp, each.partition), default=None)

    def merged(self) -> list[tuple[int, int]]:
        return sorted(
            at
            for at, each in self.records.items()
            if not self.state.compacted or each.key is None or self.newest(each.key) == each
        )


KEYS = st.sampled_from([b"a", b"b", b"c" * 500, b"", None])
STEPS = st.one_of(
    st.tuples(
        st.just("apply"),
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.integers(0, 3),
                KEYS,
                st.sampled_from([b"v", b"", None]),
                st.integers(0, 5),
                st.sampled_from("xyz"),
            ),
            min_size=1,
            max_size=6,
        ),
    ),
    st.tuples(st.just("trim"), st.integers(0, 1), st.integers(0, 30)),
    st.tuples(st.just("reopen")),
)
ROLES = st.sampled_from([{Role.FETCH}, {Role.FETCH, Role.REPLY}, {Role.FETCH, Role.REPLY, Role.STREAM}]).map(frozenset)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.booleans(), ROLES, st.lists(STEPS, max_size=10))
def test_the_store_answers_as_its_model(compacted: bool, roles: frozenset[Role], steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), 8 * MEGABYTE)
        writer = StoreWriter(store, frozenset({CORRELATION}))
        state = topic(compacted=compacted, roles=roles)
        writer.begin(b"session1", SERVERS)
        writer.start(state, {0: 0, 1: 0}, {})
        model = Model(state)
        try:
            for step in steps:
                match step:
                    case ("apply", list() as drawn):
                        _apply_both(writer, model, drawn)
                    case ("trim", int() as partition, int() as log_start):
                        trim(writer, state, partition, log_start)
                        model.trim(partition, log_start)
                    case _:
                        store.close()
                        store = Store(Path(folder), 8 * MEGABYTE)
                        writer = StoreWriter(store, frozenset({CORRELATION}))
                _compare(store, model)
        finally:
            store.close()


def _apply_both(writer: StoreWriter, model: Model, drawn: list[tuple[int, int, bytes | None, bytes | None, int, str]]) -> None:
    records = []
    following = dict(model.next)
    for partition, gap, key, value, timestamp, correlation in drawn:
        offset = following[partition] + gap
        following[partition] = offset + 1
        headers = ((CORRELATION, correlation.encode()),) if Role.REPLY in model.state.roles else ()
        records.append(Record(partition, offset, timestamp, key, value, headers))
    apply(writer, model.state, *records)
    model.apply(records)


def _compare(store: Store, model: Model) -> None:
    state = model.state
    assert store.next_offsets(state.key) == model.next
    for key in (b"a", b"b", b"c" * 500, b"", b"none"):
        assert store.latest(state.key, key) == model.newest(key)
    assert scanned(store, state) == model.merged()
    for name in (b"x", b"y", b"z", b"none"):
        at = model.replies.get(name)
        assert store.reply(state.key, name) == (None if at is None else model.records[at])
    live = [
        model.records[at]
        for at in model.records
        if model.records[at].key is None or model.newest(model.records[at].key or b"") == model.records[at]
    ]
    newest = store.newest(state, lambda each: each.value == b"v")
    matching = [each for each in live if each.value == b"v"]
    assert (newest is None) == (not matching)
    if newest is not None:
        assert newest.timestamp == max(_last_of_partition(matching).values())
    if model.state.roles != {Role.FETCH} or not model.state.compacted:
        for partition in (0, 1):
            kept = [each for at, each in sorted(model.records.items()) if at[0] == partition]
            assert store.read(state.key, partition, 0, 10**6, 10**6, 10**9) == (kept, 10**6)


def _last_of_partition(records: list[Record]) -> dict[int, int]:
    """Partition → timestamp of its record with the highest offset: inside a partition the log's order counts."""
    return {each.partition: each.timestamp for each in sorted(records, key=lambda each: each.offset)}


# One by one


def test_superseded_records_of_a_compacted_topic_that_is_only_fetched_are_removed(store: Store, writer: StoreWriter) -> None:
    state = topic(compacted=True)
    writer.start(state, {0: 0, 1: 0}, {})
    apply(writer, state, *(record(0, offset) for offset in range(10)), record(1, 0))
    assert store.read(state.key, 0, 0, 100, 100, MEGABYTE)[0] == [record(0, 9)]
    assert store.progress(state.key)[0].complete_from == 10
    assert store.progress(state.key)[1].complete_from == 1


def test_reading_stops_at_its_limits_and_returns_the_offset_it_reached(store: Store, writer: StoreWriter) -> None:
    state = topic(roles=frozenset({Role.STREAM}))
    writer.start(state, {0: 0, 1: 0}, {})
    apply(writer, state, *(record(0, offset, value=b"x" * 100) for offset in (0, 1, 5, 6, 9)))
    assert [each.offset for each in store.read(state.key, 0, 1, 7, 100, MEGABYTE)[0]] == [1, 5, 6]
    records, reached = store.read(state.key, 0, 0, 100, 2, MEGABYTE)
    assert ([each.offset for each in records], reached) == ([0, 1], 5)
    records, reached = store.read(state.key, 0, 0, 100, 100, 150)
    assert ([each.offset for each in records], reached) == ([0, 1], 5)
    assert store.read(state.key, 0, 10, 20, 100, MEGABYTE) == ([], 20)
    assert store.read(state.key, 1, 0, 20, 100, MEGABYTE) == ([], 20)


def test_the_end_of_a_log_moves_progress_without_a_record(store: Store, writer: StoreWriter) -> None:
    state = topic()
    writer.start(state, {0: 3, 1: 0}, {0: 2, 1: 0})
    apply(writer, state, p0=7)
    assert store.next_offsets(state.key) == {0: 7, 1: 0}
    apply(writer, state, p0=5)  # a batch that was fetched before and arrives late
    assert store.next_offsets(state.key) == {0: 7, 1: 0}
    assert store.progress(state.key)[0].log_start == 2


def test_trimming_takes_many_records_in_small_steps(store: Store, writer: StoreWriter) -> None:
    state = topic(roles=frozenset({Role.FETCH, Role.REPLY}))
    writer.start(state, {0: 0, 1: 0}, {})
    records = [record(0, offset, b"%d" % offset, headers=((CORRELATION, b"%d" % offset),)) for offset in range(12_000)]
    apply(writer, state, *records)
    trim(writer, state, 0, 11_999)
    assert scanned(store, state) == [(0, 11_999)]
    assert store.latest(state.key, b"11998") is None
    assert store.reply(state.key, b"11998") is None
    assert store.reply(state.key, b"11999") == records[-1]
    assert store.progress(state.key)[0].log_start == 11_999


def test_trimming_holds_only_so_much_at_once(store: Store, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_BYTES_PER_STEP", 1000)
    state = topic(roles=frozenset({Role.STREAM}))
    writer.start(state, {0: 0, 1: 0}, {})
    apply(writer, state, *(record(0, offset, value=b"x" * 600) for offset in range(10)))
    before = store.transaction()
    trim(writer, state, 0, 9)
    assert scanned(store, state) == [(0, 9)]
    assert store.transaction() - before >= 5


def test_data_of_two_topics_does_not_mix(store: Store, writer: StoreWriter) -> None:
    one, two = topic(), topic("u", OTHER_ID)
    for state in (one, two):
        writer.start(state, {0: 0, 1: 0}, {})
        apply(writer, state, record(0, 0, value=state.name.encode()), record(1, 0, b"other"))
    writer.drop_data(one.key)
    assert store.latest(one.key, b"k") is None
    assert store.progress(one.key) == {}
    assert scanned(store, one) == []
    found = store.latest(two.key, b"k")
    assert found is not None
    assert found.value == b"u"
    assert scanned(store, two) == [(0, 0), (1, 0)]


def test_no_topic_of_an_old_store_is_ready_for_a_new_writer_and_its_readers(store: Store, writer: StoreWriter) -> None:
    writer.put_states([topic()])
    before = store.topics_version()
    assert store.topics()["t"].ready
    StoreWriter(store, frozenset()).begin(b"session2", SERVERS)
    assert not store.topics()["t"].ready
    assert store.topics_version() != before


@pytest.mark.parametrize(
    ("servers", "age", "stays"),
    [
        (SERVERS, 0.0, True),
        (SERVERS, 9.0, True),
        (SERVERS, 11.0, False),
        (SERVERS, -60.0, False),
        ("another:9092", 0.0, False),
    ],
    ids=["just now", "a moment ago", "long ago", "a clock that was put back", "other servers"],
)
def test_a_topic_stays_ready_after_a_recent_heartbeat_of_a_writer_of_the_same_servers(
    store: Store, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch, servers: str, age: float, stays: bool
) -> None:
    writer.put_states([topic(), topic("u", OTHER_ID, ready=False)])
    writer.write_heartbeat(SERVERS)
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + age)
    states = StoreWriter(store, frozenset(), recent_seconds=10.0).begin(b"session2", servers)
    assert (states["t"].ready, states["u"].ready) == (stays, False)
    assert not (states["t"].ready and states["t"].confirmed)
    assert store.topics() == states


def test_a_state_comes_back_as_it_was(store: Store, writer: StoreWriter) -> None:
    states = [
        topic("a", roles=frozenset(Role), compacted=True, partitions=7, cuts=2),
        TopicState(name="b", roles=frozenset({Role.REPLY}), error="unknown_topic"),
    ]
    writer.put_states(states)
    assert store.topics() == {"a": states[0], "b": states[1]}
    assert len({topic(cuts=cuts).key for cuts in range(3)} | {topic().key}) == 3
    assert (topic().key, store.topics()["b"].key) == (bytes.fromhex(ID), b"")
    assert (
        TopicState.load(b'{"name": "t", "id": "%s", "roles": []}' % ID.encode()).cuts == 0
    )  # a state that was stored before there were cuts


def test_a_topic_is_unchanged_until_it_is_read_again(store: Store, writer: StoreWriter) -> None:
    state = topic()
    assert not store.is_unchanged(state)
    writer.put_states([state])
    assert store.is_unchanged(state)
    assert not store.is_unchanged(topic(topic_id=OTHER_ID))
    writer.put_states([topic(ready=False)])
    assert not store.is_unchanged(state)
    writer.put_states([state])
    writer.remove_topics([state])
    assert not store.is_unchanged(state)


def test_all_data_of_another_cluster_is_dropped(store: Store, writer: StoreWriter) -> None:
    assert not writer.claim_cluster("one")
    state = topic(roles=frozenset({Role.FETCH, Role.STREAM}))
    writer.start(state, {0: 0, 1: 0}, {})
    apply(writer, state, record(0, 0))
    assert not writer.claim_cluster("one")
    assert store.latest(state.key, b"k") is not None
    before = store.topics_version()
    assert writer.claim_cluster("two")
    assert store.topics() == {}
    assert store.latest(state.key, b"k") is None
    assert store.progress(state.key) == {}
    assert store.topics_version() != before
    assert not writer.claim_cluster("two")


def test_data_that_a_dead_writer_dropped_in_part_is_dropped(store: Store, writer: StoreWriter) -> None:
    kept, lost = topic(), topic("u", OTHER_ID)
    for state in (kept, lost):
        writer.start(state, {0: 0, 1: 0}, {})
        apply(writer, state, record(0, 0), record(1, 0))
    writer.remove_topics([lost])  # the writer dies here, before it dropped the data
    (left,) = writer.orphaned_topic_ids(store.topics().values())
    assert left == lost.key
    writer.drop_data(left)
    assert not writer.orphaned_topic_ids(store.topics().values())
    assert scanned(store, lost) == []
    assert store.latest(lost.key, b"k") is None
    assert store.progress(lost.key) == {}
    assert scanned(store, kept) == [(0, 0), (1, 0)]


def test_roles_of_topic_interest_add_up_until_it_is_removed(store: Store, writer: StoreWriter) -> None:
    store.add_interest("t", frozenset({Role.FETCH}), 1.0)
    store.add_interest("t", frozenset({Role.REPLY}), 2.0)
    store.add_interest("u", frozenset({Role.STREAM}), 3.0)
    assert store.interest() == {"t": {"roles": ["fetch", "reply"], "used": 2.0}, "u": {"roles": ["stream"], "used": 3.0}}
    writer.remove_interest(["t", "unknown"])
    assert list(store.interest()) == ["u"]


def test_no_topic_is_ready_without_a_writer(store: Store, writer: StoreWriter) -> None:
    writer.put_states([topic()])
    lock = WriterLock(store.path)
    assert lock.acquire()
    reset_stale_readiness(store, SERVERS, 5.0)
    assert store.topics()["t"].ready  # the present writer decides about readiness
    lock.release()
    reset_stale_readiness(store, SERVERS, 5.0)
    assert not store.topics()["t"].ready
    assert lock.acquire(), "doubting must not keep the lock"
    lock.release()


def test_a_process_opens_a_store_once_and_shares_it(tmp_path: Path, store: Store, writer: StoreWriter) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    again = Store(tmp_path / "link", 64 * MEGABYTE)
    assert again.env is store.env
    writer.put_states([topic()])
    assert again.topics() == store.topics()
    again.close()
    assert store.topics()  # still open for the others


def test_a_file_that_is_no_store_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Store(tmp_path, MEGABYTE).close()
    path = current_path(tmp_path)
    assert path is not None
    (path / "data.mdb").write_bytes(b"no store" * 4000)
    with pytest.raises(lmdb.InvalidError):  # without may_replace
        Store(tmp_path, MEGABYTE, may_replace=False)
    store = Store(tmp_path, MEGABYTE)
    assert store.topics() == {}
    assert store.path != path
    assert "store_unreadable" in caplog.text
    store.close()


def test_opening_a_store_while_a_thread_writes_to_it_blocks_no_thread(tmp_path: Path) -> None:
    # In a process of its own: if this fails, the interpreter is blocked and no time-out in it fires.
    code = """
import sys, threading, pathlib
from kafkaproxy.worker.store.reader import Store
folder = pathlib.Path(sys.argv[1])
store = Store(folder, 1 << 26)
stop = threading.Event()
def write():
    number = 0
    while not stop.is_set():
        with store.env.begin(write=True, db=store.db("wanted")) as txn:
            for _ in range(200):
                number += 1
                txn.put(b"%d" % (number % 5000), b"x" * 100)
threads = [threading.Thread(target=write) for _ in range(2)]
for each in threads: each.start()
for _ in range(300): Store(folder, 1 << 26).close()
stop.set()
for each in threads: each.join()
store.close()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)


def test_another_process_sees_what_was_written(tmp_path: Path, store: Store, writer: StoreWriter) -> None:
    writer.put_states([topic()])
    code = (
        "import sys, pathlib; from kafkaproxy.worker.store.reader import Store;"
        "s = Store(pathlib.Path(sys.argv[1]), 1 << 26); print(*s.topics()); s.close()"
    )
    shown = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60)
    assert shown.stdout.split() == ["t"]
