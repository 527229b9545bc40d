"""The parser that our tests trust: the byte-level cases of the format, each with what a browser makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams import Event, EventParser, parse_events


def message(data: str, event_id: str = "", kind: str = "message") -> Event:
    return Event(kind, data, event_id)


CASES: dict[str, tuple[bytes, list[Event]]] = {
    "a byte order mark at the start is dropped": (b"\xef\xbb\xbfdata:1\n\ndata:2\n\n", [message("1"), message("2")]),
    "only one byte order mark is dropped": (b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\n", [message("2")]),
    "a byte order mark later is a character of a field's name": (b"data:1\n\n\xef\xbb\xbfdata:2\n\n", [message("1")]),
    "lines end with CR": (b"data:1\r\rdata:2\r\r:\n", [message("1"), message("2")]),
    "lines end with LF": (b"data:1\n\ndata:2\n\n", [message("1"), message("2")]),
    "lines end with CRLF": (b"data:1\r\n\r\ndata:2\r\n\r\n", [message("1"), message("2")]),
    "line ends may be mixed": (b"data:1\r\ndata:2\ndata:3\rdata:4\n\r", [message("1\n2\n3\n4")]),
    "CRLF is one line end, LFCR two": (b"data:1\n\rdata:2\r\n\n", [message("1"), message("2")]),
    "form feed, vertical tab and NEL end no line": (
        b"data:\x0c\x0b\xc2\x85\xe2\x80\xa8x\n\n",
        [message("\x0c\x0b\x85\u2028x")],
    ),
    "data of several lines is joined by LF": (b"data:1\ndata:2\ndata\ndata:4\n\n", [message("1\n2\n\n4")]),
    "an empty data line is an event": (b"data:\n\n", [message("")]),
    "a data field without a colon is an empty line": (b"data\n\n", [message("")]),
    "two empty data lines are one line feed": (b"data\ndata\n\n", [message("\n")]),
    "only one space after the colon is dropped": (
        b"data: 1\n\ndata:  2\n\ndata:\t3\n\n",
        [message("1"), message(" 2"), message("\t3")],
    ),
    "a space before the colon is a character of the name": (b"data :1\n\ndata:2\n\n", [message("2")]),
    "names have to match exactly": (b"Data:1\nDATA:2\n data:3\ndatas:4\n\ndata:5\n\n", [message("5")]),
    "an unknown field is passed over": (b"foo:1\ndata:2\nbar\n\n", [message("2")]),
    "a comment is passed over": (b":hello\ndata:1\n:\ndata:2\n\n", [message("1\n2")]),
    "a long comment is passed over": (b":" + b"x" * 4096 + b"\ndata:1\n\n", [message("1")]),
    "a value may hold colons": (b"data::1:2\n\n", [message(":1:2")]),
    "NUL in data is a character": (b"data:\x001\n\n", [message("\x001")]),
    "NUL after data's name makes another name": (b"data\x00:1\n\ndata:2\n\n", [message("2")]),
    "an id stays until another comes": (b"id:1\ndata:a\n\ndata:b\n\n", [message("a", "1"), message("b", "1")]),
    "an empty id resets": (b"id:1\ndata:a\n\nid:\ndata:b\n\n", [message("a", "1"), message("b")]),
    "an id without a colon resets": (b"id:1\ndata:a\n\nid\ndata:b\n\n", [message("a", "1"), message("b")]),
    "an id with NUL is passed over": (b"id:1\ndata:a\n\nid:2\x00\ndata:b\n\n", [message("a", "1"), message("b", "1")]),
    "the last id of a block counts": (b"id:1\nid:2\ndata:a\n\n", [message("a", "2")]),
    "an event names its type": (b"event:add\ndata:1\n\ndata:2\n\n", [message("1", kind="add"), message("2")]),
    "an empty event type is message": (b"event:\ndata:1\n\n", [message("1")]),
    "the last event type of a block counts": (b"event:a\nevent:b\ndata:1\n\n", [message("1", kind="b")]),
    "an event without data is not dispatched, nor does its type stay": (b"event:a\n\ndata:1\n\n", [message("1")]),
    "a block that is cut off is not dispatched": (b"data:1\n\ndata:2\n", [message("1")]),
    "UTF-8 is decoded": ("data:ok…😀\n\n".encode(), [message("ok…😀")]),
    "what is not UTF-8 becomes U+FFFD": (b"data:\xff\xc3\x28\n\n", [message("\ufffd\ufffd(")]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_parser_knows_the_format(name: str) -> None:
    stream, expected = CASES[name]
    assert parse_events(stream) == expected


@pytest.mark.parametrize("name", CASES)
def test_the_parser_does_not_care_how_the_bytes_are_cut(name: str) -> None:
    stream, expected = CASES[name]
    parser = EventParser()
    assert [event for at in range(len(stream)) for event in parser.feed(stream[at : at + 1])] == expected


@pytest.mark.parametrize(
    ("stream", "retry"),
    [(b"retry:500\n", 500), (b"retry: 500\n", 500), (b"retry:1s\n", None), (b"retry:-1\n", None), (b"retry\n", None)],
)
def test_only_digits_set_the_reconnection_time(stream: bytes, retry: int | None) -> None:
    parser = EventParser()
    parser.feed(stream)
    assert parser.retry == retry


def test_a_block_without_data_moves_the_last_event_id() -> None:
    parser = EventParser()
    assert parser.feed(b"id:7\n\n") == []
    assert parser.last_event_id == "7"


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_cut_anywhere_are_parsed_alike(stream: bytes, at: int) -> None:
    parser = EventParser()
    assert parser.feed(stream[:at]) + parser.feed(stream[at:]) == parse_events(stream)
