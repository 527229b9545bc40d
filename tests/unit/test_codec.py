"""The layout of records and keys: nothing is lost, and keys keep the order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.worker.store.codec import (
    decode_header,
    decode_key,
    decode_record,
    encode_record,
    index_key,
    position,
    position_key,
)
from kafkaproxy.worker.types import Record

IDS = st.binary(min_size=16, max_size=16)
BYTES = st.none() | st.binary(max_size=40)
HEADERS = st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), BYTES), max_size=5).map(tuple)
PARTITIONS = st.integers(0, 2**31 - 1)
OFFSETS = st.integers(0, 2**63 - 1)
LONGEST_KEY_OF_LMDB = 511


@given(PARTITIONS, OFFSETS, st.integers(-1, 2**62), BYTES, BYTES, HEADERS)
def test_a_record_comes_back_whole(
    partition: int,
    offset: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: tuple[tuple[str, bytes | None], ...],
) -> None:
    data = encode_record(timestamp, key, value, headers)
    assert decode_record(partition, offset, data) == Record(partition, offset, timestamp, key, value, headers)
    assert decode_record(partition, offset, memoryview(data)) == Record(partition, offset, timestamp, key, value, headers)
    assert decode_key(data) == decode_key(memoryview(data)) == (key, timestamp)


@pytest.mark.parametrize(
    "headers",
    [
        tuple((f"h{number}", b"") for number in range(70_000)),
        (("x" * 70_000, b"y" * 70_000),),
        (("same", b"1"), ("same", None), ("same", b"")),
    ],
    ids=["very many", "very long", "repeated"],
)
def test_no_number_or_length_of_headers_is_too_much(headers: tuple[tuple[str, bytes | None], ...]) -> None:
    assert decode_record(0, 0, encode_record(0, None, None, headers)).headers == headers


@given(IDS, st.lists(st.tuples(PARTITIONS, OFFSETS), max_size=20))
def test_records_sort_by_partition_and_offset(topic: bytes, places: list[tuple[int, int]]) -> None:
    keys = [position_key(topic, *each) for each in places]
    assert [position(key) for key in sorted(keys)] == sorted(places)


@given(IDS, st.binary(max_size=600), IDS, st.binary(max_size=600))
def test_two_texts_never_share_a_place_in_an_index(topic: bytes, one: bytes, other: bytes, two: bytes) -> None:
    first, second = index_key(topic, one), index_key(other, two)
    assert (first == second) == ((topic, one) == (other, two))
    if first != second:  # nor does one begin as the other: partitions follow
        assert not first.startswith(second)
        assert not second.startswith(first)


@given(IDS, st.integers(0, 2000))
def test_no_key_is_longer_than_the_store_takes(topic: bytes, length: int) -> None:
    assert len(index_key(topic, b"x" * length)) + 4 <= LONGEST_KEY_OF_LMDB


@given(IDS, st.binary(min_size=390, max_size=410), st.binary(min_size=32, max_size=32))
def test_a_digest_is_not_mistaken_for_a_short_text(topic: bytes, long: bytes, short: bytes) -> None:
    assert index_key(topic, long) != index_key(topic, short)


def test_the_first_header_of_a_name_counts() -> None:
    headers = (("a", None), ("b", b"1"), ("b", b"2"), ("B", b"3"))
    assert decode_header(headers, "b") == b"1"
    assert decode_header(headers, "a") is None
    assert decode_header(headers, "c") is None
