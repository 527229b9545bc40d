"""Valid fields, and fields that are forwarded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core.fields import CREDENTIAL_FIELDS, HOP_BY_HOP, connection_fields, is_field_name, is_field_value


@pytest.mark.parametrize("name", [b"a", b"Content-Type", b"x_y.z", b"!#$%&'*+-.^_`|~09"])
def test_tokens_are_names(name: bytes) -> None:
    assert is_field_name(name)


@pytest.mark.parametrize("name", [b"", b" a", b"a:", b"a b", b"a\n", b"\x00", "ä".encode(), b":status", b"zilla:id", b"a\r\nb"])
def test_anything_else_is_no_name(name: bytes) -> None:
    assert not is_field_name(name)


@pytest.mark.parametrize("value", [b"", b"a", b"a b\tc", "grün".encode(), b"\xff", b'a,b;c="d"'])
def test_values_may_hold_spaces_inside_and_any_byte_above(value: bytes) -> None:
    assert is_field_value(value)


@pytest.mark.parametrize(
    "value", [b" ", b" a", b"a ", b"\ta", b"a\x00", b"a\nb", b"a\rb", b"a\r\nset-cookie: b", b"\x7f", b"a\x0b"]
)
def test_values_never_hold_controls_or_space_at_their_ends(value: bytes) -> None:
    assert not is_field_value(value)


@given(st.binary(max_size=30))
def test_a_value_that_passes_cannot_end_its_line(value: bytes) -> None:
    if is_field_value(value):
        assert not set(value) & {0, 10, 13}
        assert value == value.strip()


@given(st.binary(max_size=12))
def test_a_name_that_passes_is_printable_ascii_without_separators(name: bytes) -> None:
    if is_field_name(name):
        assert name.isascii()
        assert not set(name) & set(b'\x00\t\n\r "(),/:;<=>?@[\\]{}')


def test_connection_names_what_ends_here() -> None:
    assert connection_fields([b"close, X-Trace", b" keep-alive "]) == {b"close", b"x-trace", b"keep-alive"}
    assert connection_fields([]) == frozenset()


def test_names_are_in_lower_case_where_they_are_compared() -> None:
    for name in HOP_BY_HOP | CREDENTIAL_FIELDS:
        assert name == name.lower()
        assert is_field_name(name)
