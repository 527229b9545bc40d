"""Entity tags, and the fields that carry them back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core import progress
from kafkaproxy.core.etags import (
    FINGERPRINT_PARTITION,
    IfNoneMatch,
    fingerprint,
    merge_etag,
    parse_if_match,
    parse_if_none_match,
    record_etag,
)

IDS = st.binary(min_size=16, max_size=16)
POSITIONS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**62))
ETAG = re.compile(r'"[\x21\x23-\x7e]*"')  # RFC 9110 section 8.8.3, without obs-text
OWN = st.none() | st.text(max_size=20)


@given(IDS, POSITIONS, OWN)
def test_every_tag_is_a_valid_one_and_tells_where_the_record_is(topic: bytes, at: tuple[int, int], own: str | None) -> None:
    tag = record_etag(fingerprint(topic), *at, own)
    assert ETAG.fullmatch(tag)
    position, slash, _ = tag.strip('"').partition("/")
    assert progress.decode(position) == {FINGERPRINT_PARTITION: fingerprint(topic), at[0]: at[1] + 1}
    assert bool(slash) == (own is not None)


@given(IDS, POSITIONS, OWN, IDS, POSITIONS, OWN)
def test_a_tag_changes_with_topic_position_and_own_etag_and_only_with_them(
    topic: bytes, at: tuple[int, int], own: str | None, other: bytes, there: tuple[int, int], foreign: str | None
) -> None:
    one = record_etag(fingerprint(topic), *at, own)
    two = record_etag(fingerprint(other), *there, foreign)
    assert (one == two) == ((fingerprint(topic), at, own) == (fingerprint(other), there, foreign))


@given(IDS, st.binary(min_size=8, max_size=8), IDS, st.binary(min_size=8, max_size=8))
def test_a_merges_tag_changes_with_topic_and_digest(topic: bytes, digest: bytes, other: bytes, another: bytes) -> None:
    one, two = merge_etag(fingerprint(topic), digest), merge_etag(fingerprint(other), another)
    assert ETAG.fullmatch(one)
    assert (one == two) == ((fingerprint(topic), digest) == (fingerprint(other), another))


@given(IDS, POSITIONS, OWN, st.sampled_from(["{}", "W/{}", "  {} ", '"x", {}', '{},"y"', 'W/"x" ,W/{} , z', ",,{},"]))
def test_a_tag_that_comes_back_matches(topic: bytes, at: tuple[int, int], own: str | None, form: str) -> None:
    tag = record_etag(fingerprint(topic), *at, own)
    validator = parse_if_none_match([form.format(tag)])
    assert validator is not None
    assert validator.matches(tag)
    assert not validator.matches(record_etag(fingerprint(topic), at[0], at[1] + 1, own))
    assert not validator.matches(None)


@pytest.mark.parametrize(
    ("lines", "tags", "any_"),
    [
        (['"a"'], {"a"}, False),
        (['W/"a", "b"'], {"a", "b"}, False),
        (['"a"', '"b"'], {"a", "b"}, False),
        (['"a,b" , "c;d"'], {"a,b", "c;d"}, False),
        (['""'], {""}, False),
        (["AQIAAg=="], {"AQIAAg=="}, False),  # the reference's form
        (["AQIAAg==/revision=42, x"], {"AQIAAg==/revision=42", "x"}, False),
        (["*"], {"*"}, True),
        (['"a", *'], {"a", "*"}, True),
        (['"*"'], {"*"}, False),
        (['"a" b, "c"'], {'"a" b', "c"}, False),
        (['"open, "c"'], {'"open', "c"}, False),
        (['w/"a"'], {'w/"a"'}, False),  # the weak prefix is case-sensitive
    ],
)
def test_lists_are_read_member_by_member(lines: list[str], tags: set[str], any_: bool) -> None:
    assert parse_if_none_match(lines) == IfNoneMatch(any=any_, tags=frozenset(tags))


@pytest.mark.parametrize("lines", [[], [""], [" "], [",", " , \t"]])
def test_a_field_that_says_nothing_is_none(lines: list[str]) -> None:
    assert parse_if_none_match(lines) is None


def test_anything_matches_the_star_but_nothing_at_all() -> None:
    validator = parse_if_none_match(["*"])
    assert validator is not None
    assert validator.matches('"a"')
    assert not validator.matches(None)


@pytest.mark.parametrize(
    ("lines", "given_to_the_service"),
    [
        (['"AQIAAg==/revision=42"'], "revision=42"),
        (["AQIAAg==/revision=42"], "revision=42"),
        (['"AQIAAg==", "AQIAAg==/second"'], "second"),
        (['"AQIAAg==/a/b"'], "a/b"),
        (['"AQIAAg==/%22quoted%22"'], '"quoted"'),
        (['"AQIAAg=="'], None),
        (['"the-services-own"'], "the-services-own"),
        (["*"], "*"),
        ([""], None),
        ([], None),
    ],
)
def test_if_match_gives_the_service_its_own_etag(lines: list[str], given_to_the_service: str | None) -> None:
    assert parse_if_match(lines) == given_to_the_service


@given(IDS, POSITIONS, st.text(max_size=20))
def test_if_match_brings_back_whatever_etag_a_record_had(topic: bytes, at: tuple[int, int], own: str) -> None:
    assert parse_if_match([record_etag(fingerprint(topic), *at, own)]) == own


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "line", ["a" + " " * 60_000 + "b", " " * 60_000, '"' * 60_000, '"a,' * 20_000, 'W/"' * 20_000, "," * 60_000]
)
def test_no_line_takes_long_to_read(line: str) -> None:
    parse_if_none_match([line])  # with backtracking it takes minutes and blocks every other request
    parse_if_match([line])


@given(st.text(alphabet='W/"*, \tab', max_size=30))
def test_no_line_breaks_the_parser(line: str) -> None:
    validator = parse_if_none_match([line])
    assert (validator is None) == (line.strip(" \t,") == "")
