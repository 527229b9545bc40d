"""Testing if a value is JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core.jsontext import is_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_what_any_encoder_writes_is(value: object, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:  # a lone surrogate, written as it is
        return
    assert is_json(encoded)
    assert is_json(b" \r\n\t" + encoded + b"\n")


@pytest.mark.parametrize("value", [b"-0", b"1e400", b"9" * 6000, b"0.1E-9", b'"\\ud800"', b'{"a":1,"a":2}', b"[]", b"null"])
def test_what_is_unusual_is_json_all_the_same(value: bytes) -> None:
    assert is_json(value)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b" ", b"{", b"]", b"1,2", b"[1,]", b'{"a"}', b"{a:1}", b"'a'", b'"', b"01", b"+1", b"1.", b".5", b"0x1", b"tru"),
        *(b"NaN", b"Infinity", b"-Infinity", b"[NaN]", b"\xef\xbb\xbf1", b'"\xff"', "1".encode("utf-16"), b'"\n"', b'"\\x"'),
        *(b"[1] [2]", b"1 2", b"// 1", b"\xa01", b"\x0b1", b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000),
    ],
)
def test_anything_else_is_not(value: bytes) -> None:
    assert not is_json(value)


@given(st.binary(max_size=30))
def test_bytes_that_pass_can_stand_in_an_array(value: bytes) -> None:
    if is_json(value):
        assert len(json.loads(b"[0," + value + b",1]")) == 3
