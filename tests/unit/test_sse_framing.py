"""Framing: whatever bytes a record holds, a browser gets that record and nothing else."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kafkaproxy.core.eventids import make_event_id, parse_event_id
from kafkaproxy.core.progress import encode
from kafkaproxy.core.sse import COMMENT, challenge_frame, frame, gap_frame, id_frame, is_text, record_frame, retry_frame
from tests.support.streams import Event, EventParser, parse_events

ID = "AQQABAIC"
# Bytes that have a meaning for a parser are frequent.
SYNTAX = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b" ", b":", b"\0", b"\xef\xbb\xbf", b"data", b"id:", b"event:x", b"retry:1", b"\n\n"]
)
VALUES = st.lists(SYNTAX | st.binary(max_size=8) | st.text(max_size=8).map(str.encode), max_size=12).map(b"".join)


def lines(text: str) -> str:
    """What is left of line ends: a parser ends a line at each of them and joins lines with LF."""
    return re.sub("\r\n|\r", "\n", text)


@pytest.mark.parametrize(
    ("value", "framed"),
    [
        (b"Hello, world", b"data:Hello, world\n"),
        (b"", b"data:\n"),
        (b"Hello\nworld\n", b"data:Hello\ndata:world\ndata:\n"),
        (b"Hello\r\nworld\r", b"data:Hello\ndata:world\ndata:\n"),
        (b" one space", b"data:  one space\n"),
        (b"a\n b", b"data:a\ndata:  b\n"),
        (b"\ttab", b"data:\ttab\n"),
        (b"\n", b"data:\ndata:\n"),
        ("é😀".encode(), b"data:\xc3\xa9\xf0\x9f\x98\x80\n"),
        (b"\xc3\x28", b"event:binary\ndata:wyg=\n"),
        (b"\xed\xa0\x80", b"event:binary\ndata:7aCA\n"),  # a surrogate is not UTF-8
    ],
)
def test_a_value_is_framed(value: bytes, framed: bytes) -> None:
    assert record_frame(ID, b"key", value, as_base64=False) == b"id:AQQABAIC\n" + framed + b"\n"


def test_a_tombstone_is_a_deletion_of_its_key() -> None:
    assert record_frame(ID, b"key", None, as_base64=False) == b"id:AQQABAIC\nevent:delete\ndata:a2V5\n\n"
    assert record_frame(ID, b"\xff\xfe", None, as_base64=True) == b"id:AQQABAIC\nevent:delete\ndata:__4=\n\n"
    assert record_frame(ID, b"", None, as_base64=False) == b"id:AQQABAIC\nevent:delete\ndata:\n\n"


def test_a_tombstone_without_a_key_only_moves_the_position() -> None:
    parser = EventParser()
    assert parser.feed(record_frame(ID, None, None, as_base64=False)) == []
    assert parser.last_event_id == ID


def test_a_route_may_have_every_value_as_base64() -> None:
    assert parse_events(record_frame(ID, None, b"text", as_base64=True)) == [Event("message", "dGV4dA==", ID)]
    assert parse_events(record_frame(ID, None, b"\xff", as_base64=True)) == [Event("message", "/w==", ID)]


def test_the_other_frames_dispatch_what_they_say() -> None:
    parser = EventParser()
    assert parser.feed(COMMENT + id_frame(ID) + retry_frame(1234)) == []
    assert (parser.comments, parser.last_event_id, parser.retry) == (1, ID, 1234)
    lost = {"lost": [{"partition": 0, "from": 1, "to": 5}]}
    (gap,) = parser.feed(gap_frame("AQIAAg==", lost))
    assert (gap.type, json.loads(gap.data), gap.id) == ("gap", lost, "AQIAAg==")


@given(st.none() | VALUES, st.none() | VALUES, st.none() | VALUES, st.booleans(), st.booleans())
@example(b"a\n\nid:evil\nevent:evil\ndata:evil\n\n", b"key", None, False, False)
@example(b"a", b"\n\ndata:evil\n\n", b"\r\rdata:evil\r\r", True, False)
def test_any_record_arrives_as_itself_and_alone(
    value: bytes | None, key: bytes | None, etag: bytes | None, keyed: bool, as_base64: bool
) -> None:
    event_id = make_event_id(encode({0: 7}), key, etag, keyed=keyed)
    parser = EventParser()
    events = parser.feed(b":\n\n" + record_frame(event_id, key, value, as_base64=as_base64) + b"data:next\n\n")
    assert parse_event_id(parser.last_event_id) == {0: 7}
    assert events.pop() == Event("message", "next", event_id)  # the frame ended where it should
    assert parser.retry is None
    if value is None and key is None:
        assert events == []
        return
    (event,) = events
    assert event.id == event_id
    match event.type:
        case "delete":
            assert value is None
            assert base64.urlsafe_b64decode(event.data) == key
        case "binary":
            assert not as_base64
            assert base64.b64decode(event.data) == value
            assert value is not None
            assert not is_text(value)
        case "message" if as_base64:
            assert base64.b64decode(event.data) == value
        case "message":
            assert value is not None
            assert event.data == lines(value.decode())
        case other:
            pytest.fail(f"no such event: {other}")


@given(st.binary(max_size=64))
def test_text_is_what_a_browser_decodes_without_loss(value: bytes) -> None:
    assert is_text(value) == (value.decode(errors="replace").encode() == value)


@given(st.lists(st.tuples(st.none() | VALUES, st.none() | VALUES), max_size=8), st.data())
def test_frames_may_be_cut_anywhere(records: list[tuple[bytes | None, bytes | None]], data: st.DataObject) -> None:
    stream = b"".join(
        record_frame(encode({0: number}), key, value, as_base64=False) for number, (key, value) in enumerate(records)
    )
    at = data.draw(st.integers(0, len(stream)))
    parser = EventParser()
    assert parser.feed(stream[:at]) + parser.feed(stream[at:]) == parse_events(stream)


def test_a_frame_of_any_event_has_its_fields_in_order() -> None:
    assert frame("1", b"kind", b"x") == b"id:1\nevent:kind\ndata:x\n\n"
    assert frame("1", None, None) == b"id:1\n\n"


def test_a_challenge_moves_no_position() -> None:
    challenge = {"method": "POST", "headers": {"content-type": "application/x-challenge-response"}}
    assert parse_events(id_frame("7") + challenge_frame(challenge)) == [
        Event("challenge", json.dumps(challenge, separators=(",", ":")), "7")
    ]
