"""The live end of a topic: which filters match a record, broadcast rings, cached pages, and records dropped too early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core import progress
from kafkaproxy.streaming import broadcast
from kafkaproxy.streaming.broadcast import BroadcastRing, Framing, RingBudget
from kafkaproxy.streaming.page_cache import FramePage, PageCache
from kafkaproxy.streaming.tail import StreamTail
from kafkaproxy.worker.filters import FilterIndex, RecordFilter, passes
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.writer import Batch, StoreWriter
from kafkaproxy.worker.types import Record, Role
from tests.support.streams import parse_events
from tests.unit.trimming import trim

PLAIN = Framing(keyed=False, as_base64=False)
STATE = TopicState(name="t", id="0123456789abcdef" * 2, partitions=2, roles=frozenset({Role.STREAM}), ready=True)

KEYS = st.sampled_from([b"a", b"b", b""])
HEADERS = st.tuples(st.sampled_from(["x", "y"]), st.sampled_from([b"1", b"2"]))
FILTERS = st.lists(
    st.builds(RecordFilter, st.none() | KEYS, st.lists(HEADERS, max_size=2).map(tuple)), max_size=3, unique=True
).map(tuple)
RECORDS = st.builds(
    Record,
    st.just(0),
    st.just(0),
    st.just(0),
    st.none() | KEYS,
    st.just(b""),
    st.lists(HEADERS | st.just(("x", None)), max_size=3).map(tuple),
)


@given(st.lists(FILTERS, max_size=8), RECORDS, st.data())
def test_the_index_finds_whose_filters_pass(
    all_filters: list[tuple[RecordFilter, ...]], record: Record, data: st.DataObject
) -> None:
    index: FilterIndex[int] = FilterIndex()
    for number, filters in enumerate(all_filters):
        index.add(filters, number)
    expected = [number for number, filters in enumerate(all_filters) if passes(filters, record)]
    assert sorted(index.find(record)) == expected  # each once
    gone = data.draw(st.sets(st.sampled_from(range(len(all_filters))))) if all_filters else set()
    for number in gone:
        index.remove(all_filters[number], number)
    assert sorted(index.find(record)) == [number for number in expected if number not in gone]


def test_an_index_that_is_emptied_holds_nothing() -> None:
    index: FilterIndex[int] = FilterIndex()
    filters = (RecordFilter(b"a", ()), RecordFilter(b"", ()), RecordFilter(None, (("x", b"1"),)))
    index.add(filters, 1)
    index.remove(filters, 1)
    assert (index._all, dict(index._by_key), dict(index._by_header)) == (set(), {}, {})


# The ring


def ring(count: int, size: int = 10) -> BroadcastRing:
    group = BroadcastRing(((), PLAIN), RingBudget())
    group.subscriptions = 1
    for number in range(count):
        group.append(b"%0*d" % (size, number), str(number))
    return group


def walk(group: BroadcastRing, sequence: int) -> tuple[bytes, int, str] | None:
    """Everything from a sequence number on, in as many batches as it takes."""
    frames, position = b"", ""
    while sequence < group.end:
        batch = group.read(sequence)
        if batch is None:
            return None
        frames, sequence, position = frames + batch.frames, batch.next, batch.position
    return frames, sequence, position


@pytest.mark.parametrize("begin", [0, 1, 7, 98, 99])
def test_a_stream_gets_the_new_frames_and_the_position_after_them(begin: int) -> None:
    assert walk(ring(100), begin) == (b"".join(b"%010d" % number for number in range(begin, 100)), 100, "99")


def test_a_batch_is_bounded_and_a_frame_is_never_cut() -> None:
    group = ring(10, 50_000)
    batch = group.read(0)
    assert batch is not None
    assert (len(batch.frames), batch.next, batch.position) == (100_000, 2, "1")
    large = ring(1, broadcast._BATCH_BYTES * 2)
    assert walk(large, 0) == (b"%0*d" % (broadcast._BATCH_BYTES * 2, 0), 1, "0")


def test_streams_that_read_the_same_range_get_the_same_bytes() -> None:
    group = ring(10)
    one, other = group.read(3), group.read(3)
    assert one is other
    group.append(b"more", "10")
    assert walk(group, 3) == (b"".join(b"%010d" % number for number in range(3, 10)) + b"more", 11, "10")


@pytest.mark.parametrize(("count", "size"), [(broadcast._MAX_FRAMES + 1, 10), (5, broadcast._MAX_BYTES // 4)])
def test_a_full_ring_drops_its_older_half_and_says_so(count: int, size: int) -> None:
    group = ring(count, size)
    assert group.read(0) is None
    assert group.end == count
    frames = walk(group, count - 1)
    assert frames is not None
    assert frames[0] == b"%0*d" % (size, count - 1)
    assert group._bytes == sum(map(len, group._frames))


async def test_frames_that_every_stream_has_sent_are_dropped() -> None:
    group = ring(5)
    group.drop_sent()
    assert len(group._frames) == 5  # its only stream is not waiting: it may have frames to send
    waiter = asyncio.get_running_loop().create_future()
    group.waiters.add(waiter)
    group.drop_sent()
    assert (group._frames, group._bytes, group.end) == ([], 0, 5)
    group.append(b"x", "5")
    assert walk(group, 5) == (b"x", 6, "5")
    group.wake()
    assert waiter.done()
    assert not group.waiters


# All rings


def rings_of(limit: int, count: int) -> tuple[RingBudget, list[BroadcastRing]]:
    rings = RingBudget(limit)
    groups = [BroadcastRing(((RecordFilter(b"%d" % number, ()),), PLAIN), rings) for number in range(count)]
    for group in groups:
        group.subscriptions = 1  # a stream that sends nothing
    return rings, groups


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3000), st.integers(1, 5)), max_size=60), st.sampled_from([500, 9000])
)
def test_rings_hold_no_more_than_their_limit_together(steps: list[tuple[int, int, int]], limit: int) -> None:
    rings, groups = rings_of(limit, 5)
    for number, size, sharing in steps:
        groups[number].append(b"x" * size, "p", sharing)
        rings.enforce()
        assert rings.size == sum(group.cost for group in groups) <= limit
        assert all(group.cost == sum(group._costs) for group in groups)
    for group in groups:
        group.subscriptions = 0
        group.drop_sent()
    assert (rings.size, [each for each in rings._by_size if each]) == (0, [])


def test_the_largest_ring_makes_room_for_all() -> None:
    rings, (large, *small) = rings_of(20_000, 5)
    for number in range(100):
        large.append(b"%0100d" % number, str(number))
        small[number % 4].append(b"%010d" % number, str(number))
        rings.enforce()
    assert large.read(0) is None
    assert walk(large, 99) == (b"%0100d" % 99, 100, "99")
    assert all(len(group._frames) == 25 for group in small)


def test_what_many_rings_get_counts_once() -> None:
    rings, groups = rings_of(20_000, 10)
    for group in groups:
        group.append(b"x" * 10_000, "p", len(groups))
    rings.enforce()
    assert all(group.read(0) is not None for group in groups)


# Cached pages


async def test_concurrent_reads_of_a_page_are_one_read() -> None:
    pages, reads = PageCache(), 0

    async def read() -> FramePage:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0.01)
        return FramePage(b"x", 1, "p")

    leaving = asyncio.ensure_future(pages.shared("key", read))
    staying = [asyncio.ensure_future(pages.shared("key", read)) for _ in range(10)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert {await each for each in staying} == {FramePage(b"x", 1, "p")}
    assert reads == 1
    assert pages.get("key") == FramePage(b"x", 1, "p")


async def test_a_read_without_waiting_streams_is_cancelled_and_the_next_stream_reads_anew() -> None:
    pages = PageCache()
    ends: list[str] = []

    async def read() -> FramePage:
        try:
            await asyncio.sleep(60 if not ends else 0)
        finally:
            ends.append(asyncio.current_task().cancelling() > 0)  # type: ignore[union-attr]
        return FramePage(b"x", 1, "p")

    leaving = [asyncio.ensure_future(pages.shared("key", read)) for _ in range(2)]
    await asyncio.sleep(0)
    for each in leaving:
        each.cancel()
    await asyncio.wait(leaving)
    assert await pages.shared("key", read) == FramePage(b"x", 1, "p")
    assert ends == [True, False]


async def test_a_page_that_could_not_be_read_is_read_again() -> None:
    pages = PageCache()

    async def fail() -> FramePage:
        raise OSError("away")

    async def read() -> FramePage:
        return FramePage(b"x", 1, "p")

    with pytest.raises(OSError, match="away"):
        await pages.shared("key", fail)
    assert pages.get("key") is None
    assert await pages.shared("key", read) == FramePage(b"x", 1, "p")


def test_pages_are_bounded() -> None:
    pages = PageCache()
    for number in range(1000):
        pages.put(number, FramePage(b"x" * 100_000, number, ""))
        pages.put(number, FramePage(b"again", number, ""))
    assert pages.get(999) is not None
    assert pages.get(0) is None
    assert pages._bytes == sum(len(page.frames) for page in pages._pages.values()) <= 8 << 20


# The tail


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path, 64 << 20)
    yield opened
    opened.close()


@pytest.fixture
def writer(store: Store) -> StoreWriter:
    made = StoreWriter(store, frozenset())
    made.begin(b"session1", "localhost:9092")
    made.start(STATE, {0: 0, 1: 0}, {0: 0, 1: 0})
    return made


def write(writer: StoreWriter, partition: int, *offsets: int) -> None:
    records = [Record(partition, offset, 0, b"k%d" % (offset % 2), b"%d-%d" % (partition, offset), ()) for offset in offsets]
    writer.apply({"t": Batch(records, {})}, {"t": STATE})


def data_of(group: BroadcastRing, sequence: int = 0) -> list[str]:
    walked = walk(group, sequence)
    assert walked is not None
    return [event.data for event in parse_events(walked[0])]


def test_rings_get_the_frames_that_their_filters_pass_with_the_whole_position(store: Store, writer: StoreWriter) -> None:
    tail = StreamTail(STATE.key, store.next_offsets(STATE.key))
    everything, odd = tail.subscribe(((), PLAIN)), tail.subscribe(((RecordFilter(b"k1", ()),), PLAIN))
    write(writer, 1, 0, 1)
    write(writer, 0, 0, 1, 2)
    assert not tail.advance(store)
    assert data_of(everything) == ["0-0", "0-1", "0-2", "1-0", "1-1"]
    assert data_of(odd) == ["0-1", "1-1"]
    ids = [progress.decode(event.id) for event in parse_events(walk(odd, 0)[0])]  # type: ignore[index]
    assert ids == [{0: 2, 1: 0}, {0: 3, 1: 2}]
    assert progress.decode(tail.position) == tail.positions == {0: 3, 1: 2}


def test_without_a_stream_at_the_live_end_nothing_is_read(
    store: Store, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = StreamTail(STATE.key, store.next_offsets(STATE.key))
    write(writer, 0, *range(1000))
    monkeypatch.setattr(store, "read", None)
    assert not tail.advance(store)
    assert tail.positions == {0: 1000, 1: 0}


def test_rings_of_streams_that_do_not_read_stay_within_the_budget(store: Store, writer: StoreWriter) -> None:
    tail = StreamTail(STATE.key, store.next_offsets(STATE.key))
    tail._budget = RingBudget(2_000)
    groups = [tail.subscribe(((RecordFilter(key, ()),), PLAIN)) for key in (b"k0", b"k1", b"none")]
    write(writer, 0, *range(100))
    while tail.advance(store):
        pass
    assert sum(group.cost for group in groups) == tail._budget.size <= 2_000
    assert [group.read(0) is None for group in groups[:2]] == [True, True]
    assert [group.end for group in groups] == [50, 50, 0]
    for group in groups:
        tail.unsubscribe(group)
    assert tail._budget.size == 0


def test_a_long_step_is_made_in_parts(store: Store, writer: StoreWriter) -> None:
    tail = StreamTail(STATE.key, store.next_offsets(STATE.key))
    group = tail.subscribe(((), PLAIN))
    write(writer, 0, *range(1200))
    steps = 1
    while tail.advance(store):
        steps += 1
    assert steps == 12
    assert len(data_of(group)) == 1200


async def test_records_that_left_the_store_before_they_were_read_send_streams_back_to_where_they_were(
    store: Store, writer: StoreWriter
) -> None:
    tail = StreamTail(STATE.key, store.next_offsets(STATE.key))
    group = tail.subscribe(((), PLAIN))
    write(writer, 0, 0, 1)
    tail.advance(store)
    assert data_of(group) == ["0-0", "0-1"]
    waiter = asyncio.get_running_loop().create_future()
    group.waiters.add(waiter)
    write(writer, 0, *range(2, 10))
    trim(writer, STATE, 0, 6)  # faster than the tail
    assert not tail.advance(store)
    assert group.closed
    assert waiter.done()
    assert group.end == 2  # nothing after the hole was added: a client would not see that there is one
    tail.unsubscribe(group)
    again = tail.subscribe(((), PLAIN))
    assert again is not group
    assert tail.positions == {0: 10, 1: 0}


def test_a_reset_closes_rings_and_begins_another_epoch(store: Store, writer: StoreWriter) -> None:
    tail = StreamTail(STATE.key, {0: 5})
    group, epoch = tail.subscribe(((), PLAIN)), tail.epoch
    tail.reset(b"another".ljust(16), {0: 0})
    assert group.closed
    assert tail.epoch is not epoch
    assert tail.positions == {0: 0}


def test_a_partition_that_the_topic_grew_by_is_read_from_its_beginning(store: Store, writer: StoreWriter) -> None:
    tail = StreamTail(STATE.key, store.next_offsets(STATE.key))
    group = tail.subscribe(((), PLAIN))
    writer.start(STATE, {2: 3}, {2: 3})
    write(writer, 2, 3, 4)
    tail.advance(store)
    assert data_of(group) == ["2-3", "2-4"]
    assert tail.positions == {0: 0, 1: 0, 2: 5}


def test_a_log_is_read_as_far_as_the_store_holds_all_of_it(store: Store, writer: StoreWriter) -> None:
    def offsets(start: int, end: int) -> list[int] | None:
        read = store.read_log(STATE.key, 0, start, end, 100, 1 << 20)
        return None if read is None else [*(each.offset for each in read[0]), read[1]]

    write(writer, 0, 0, 1, 5)
    assert offsets(0, 4) == [0, 1, 4]
    assert offsets(0, 100) == [0, 1, 5, 6]  # what comes after was not read yet
    assert offsets(6, 100) is None
    trim(writer, STATE, 0, 3)
    assert offsets(2, 100) is None
    assert offsets(3, 100) == [5, 6]
    writer.drop_data(STATE.key)
    assert offsets(3, 100) is None
    writer.start(STATE, {0: 3}, {0: 3})
    assert offsets(3, 100) is None  # nothing is there, and that is not all there is
