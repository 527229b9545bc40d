"""Event ids and the progress inside them."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core import progress
from kafkaproxy.core.eventids import BadEventId, make_event_id, parse_event_id
from kafkaproxy.http.request import Request
from kafkaproxy.streaming.start_position import last_event_position

OFFSETS = st.integers(min_value=0, max_value=2**63 - 1)
POSITIONS = st.dictionaries(st.integers(min_value=0, max_value=2**31 - 1), OFFSETS, max_size=40)


# The vectors of the reference: its tests, its documentation, and its algorithm worked by hand.
@pytest.mark.parametrize(
    ("position", "text"),
    [
        ({0: 2, 1: 1}, "AQQABAIC"),
        ({0: 3, 1: 1}, "AQQABgIC"),
        ({0: 1}, "AQIAAg=="),
        ({0: -2, 1: 5}, "AQQAAwIK"),
        ({0: 1, 1: -2, 2: -2}, "AQYAAgIDBAM="),
        ({0: 64}, "AQIAgAE="),
        ({0: 1_000_000}, "AQIAgIl6"),
        ({}, "AQA="),
    ],
)
def test_progress_is_written_and_read_as_the_reference_does(position: dict[int, int], text: str) -> None:
    assert progress.encode(position) == text
    assert progress.decode(text) == position
    assert parse_event_id(text) == position
    assert parse_event_id(f"{text}/revision=42") == position
    assert parse_event_id(f'["a2V5","{text}"]') == position  # D20: the reference replays everything for this one
    assert parse_event_id(f'["a2V5","{text}/revision=42"]') == position
    assert parse_event_id(f'[null,"{text}"]') == position


def test_pairs_may_come_in_any_order() -> None:
    assert progress.decode("AQQCAgAE") == {0: 2, 1: 1}


def test_partitions_below_zero_are_no_part_of_the_position() -> None:
    assert parse_event_id(progress.encode({-1: -2, 0: 7})) == {0: 7}


@pytest.mark.parametrize(
    ("key", "etag", "keyed", "event_id"),
    [
        (b"key", None, False, "AQQABAIC"),
        (b"key", b"revision=42", False, "AQQABAIC/revision=42"),
        (b"key", b"revision=42", True, '["a2V5","AQQABAIC/revision=42"]'),
        (None, None, True, '[null,"AQQABAIC"]'),
        (b"", b"", True, '["","AQQABAIC/"]'),
        (b"\xff\xfe", None, True, '["__4=","AQQABAIC"]'),
        (b"key", b'"a,b"', True, '["a2V5","AQQABAIC/%22a,b%22"]'),
        (b"key", b"\r\n\0id:x \\", False, "AQQABAIC/%0D%0A%00id:x%20%5C"),
        (b"key", "é".encode(), False, "AQQABAIC/%C3%A9"),
    ],
)
def test_ids_are_made_in_the_forms_of_the_reference(key: bytes | None, etag: bytes | None, keyed: bool, event_id: str) -> None:
    assert make_event_id("AQQABAIC", key, etag, keyed=keyed) == event_id


@pytest.mark.parametrize("etag", ['"a,b"', '"', '",""]', "a/b", "]", "\\"])
def test_an_id_of_the_reference_is_read_whatever_its_etag_holds(etag: str) -> None:
    assert parse_event_id(f"AQQABAIC/{etag}") == {0: 2, 1: 1}
    assert parse_event_id(f'["a2V5","AQQABAIC/{etag}"]') == {0: 2, 1: 1}


@pytest.mark.parametrize(
    "text",
    [
        "AQQA",  # fewer pairs than it says
        "AQQABAIC===",
        "AQQABAI^",
        "AQQABAIC==^=",
        "A===",
        "AQQABAICAgI=",  # bytes after the last pair
        "AQQABAAC",  # the same partition twice
        "AgQABAIC",  # another version
        "AQE=",  # minus one pairs
        "=",
        "105",
        "é",
        "AQIA////////////",  # not the URL's alphabet
        base64.urlsafe_b64encode(b"\x01\x02\x00" + b"\xff" * 10 + b"\x01").decode(),  # a number without an end
        progress.encode({2**31: 1}),
        progress.encode({0: 2**63}),
        "[",
        "[]",
        '["a2V5"]',
        '["a2V5","AQQABAIC"',
        '["a2V5","AQQA"]',
        "[null,null]",
        '["a","b","AQQABAIC"]',
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(BadEventId):
        parse_event_id(text)


@given(POSITIONS)
def test_any_position_comes_back(position: dict[int, int]) -> None:
    assert progress.decode(progress.encode(position)) == position


@given(POSITIONS, st.lists(st.tuples(st.integers(0, 50), OFFSETS), max_size=20))
def test_the_encoder_writes_what_encoding_everything_would(position: dict[int, int], moves: list[tuple[int, int]]) -> None:
    encoder = progress.Encoder(position)
    for partition, offset in moves:
        encoder.set(partition, offset)
        position = {**position, partition: offset}
        assert encoder.text() == progress.encode(position)


@given(POSITIONS, st.none() | st.binary(), st.none() | st.binary(), st.booleans())
def test_any_key_and_etag_make_an_id_that_resumes(
    position: dict[int, int], key: bytes | None, etag: bytes | None, keyed: bool
) -> None:
    event_id = make_event_id(progress.encode(position), key, etag, keyed=keyed)
    assert parse_event_id(event_id) == position
    assert re.fullmatch(r"[!-~]*", event_id)  # printable ASCII: fit for a frame, a field and a query
    if keyed:
        first, _ = json.loads(event_id)
        assert (None if first is None else base64.urlsafe_b64decode(first)) == key


@given(
    st.integers(0, 2000),
    st.sampled_from([0, 10**7, 2**40]),
    st.none() | st.builds(lambda unit, count: unit * count, st.sampled_from([b"k", b"\xff"]), st.integers(0, 5000)),
    st.none() | st.builds(lambda unit, count: unit * count, st.sampled_from([b"e", b'"', "é".encode()]), st.integers(0, 5000)),
    st.booleans(),
    st.sampled_from([0, 254, 4096]),
)
def test_whatever_id_is_sent_is_accepted_when_it_comes_back(
    partitions: int, offset: int, key: bytes | None, etag: bytes | None, keyed: bool, limit: int
) -> None:
    position = {partition: offset + partition for partition in range(partitions)}
    text = progress.encode(position)
    event_id = make_event_id(text, key, etag, keyed=keyed, limit=limit)
    for headers, query in (([(b"last-event-id", event_id.encode())], ""), ([], f"lastEventId={quote(event_id, safe='')}")):
        scope = {"method": "GET", "scheme": "https", "raw_path": b"/", "query_string": query.encode(), "headers": headers}
        assert last_event_position(Request(scope, None), limit) == position  # type: ignore[arg-type]
    longer = [
        make_event_id(text, key, etag, keyed=keyed),
        make_event_id(text, key, None, keyed=keyed),
        make_event_id(text, None, None, keyed=keyed),
    ]
    assert event_id == next((each for each in longer if len(each) <= limit), longer[-1])  # no more is left out than has to be


@given(st.text(max_size=40))
def test_any_text_is_an_id_or_is_refused(text: str) -> None:
    try:
        position = parse_event_id(text)
    except BadEventId:
        return
    assert all(partition >= 0 for partition in position)
