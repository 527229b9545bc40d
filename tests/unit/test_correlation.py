"""Correlation ids: the same request has the same id, a different one never has."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core.correlation import correlation_id, is_owned, owner_digest

BASE: dict[str, Any] = {
    "owner": owner_digest([("jwt", "alice")], ["/items;cid="]),
    "method": "PUT",
    "target": "/items/1?a=b",
    "key": b"1",
    "content_type": b"application/json",
    "if_match": None,
    "reply_to": "items-replies",
    "overrides": (("zilla:identity", "alice"),),
    "body": b"{}",
}
KEY = "3f96592e-c8f1-4167-8c46-85f2aabb70a5"


def test_an_id_is_the_idempotency_key_and_32_hex_digits() -> None:
    made = correlation_id(KEY, **BASE)
    assert re.fullmatch(KEY + "-[0-9a-f]{32}", made)
    assert correlation_id(KEY, **BASE) == made


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("owner", owner_digest([("jwt", "bob")], ["/items;cid="])),
        ("method", "POST"),
        ("target", "/items/1?a=c"),
        ("key", b"2"),
        ("key", None),
        ("content_type", b"text/plain"),
        ("content_type", None),
        ("if_match", "revision=42"),
        ("if_match", ""),
        ("reply_to", "other-replies"),
        ("overrides", ()),
        ("overrides", (("zilla:identity", "bob"),)),
        ("overrides", (("zilla:identity", "alice"), ("a", ""))),
        ("body", b""),
        ("body", b"{} "),
    ],
)
def test_whatever_makes_another_request_makes_another_id(part: str, other: object) -> None:
    assert correlation_id(KEY, **{**BASE, part: other}) != correlation_id(KEY, **BASE)


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_no_two_lists_run_together(one: list[str], two: list[str]) -> None:
    first = owner_digest([], one)
    assert (first == owner_digest([], two)) == (one == two)


@given(st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2)), max_size=3), st.lists(st.text(max_size=2), max_size=3))
def test_identities_and_location_do_not_run_together(identities: list[tuple[str, str]], location: list[str]) -> None:
    flat = [text for pair in identities for text in pair]
    assert (owner_digest(identities, location) == owner_digest([], [*flat, *location])) == (not identities)


def test_an_owner_recognises_ids_of_its_own_only() -> None:
    alice, bob = BASE["owner"], owner_digest([("jwt", "bob")], ["/items;cid="])
    made = correlation_id("a-key", **BASE)
    assert is_owned(made, alice)
    assert not is_owned(made, bob)
    assert is_owned(correlation_id("with\nline", **BASE), alice)
    for text in ("", alice, "-" + made[-32:], made + "0", made.upper(), made[:-1]):
        assert not is_owned(text, alice)
