"""Which templates cover others."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kafkaproxy.core.covering import CoverIndex, are_disjoint, covers, may_overlap
from kafkaproxy.core.paths import PathTemplate

spelled = st.lists(st.sampled_from(["a", "b", "/", "{}", "*"]), max_size=6).map("".join)


def _template(text: str) -> PathTemplate:
    names = iter("klmnop")
    return PathTemplate.parse(re.sub(r"\{\}", lambda _: f"{{{next(names)}}}", text))


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("*", "/items/{}", True),
        ("/items/{}", "/items/1", True),
        ("/items/{}", "/items/{}", True),
        ("/items/{}", "/items/{};cid={}", True),
        ("/items/{};cid={}", "/items/{}", False),
        ("/items/{}", "/items/{}/x", False),
        ("/items/*", "/items/{}/x", True),
        ("/items/{}", "/items/*", False),
        ("/items/{}", "/items/", False),
        ("/items*", "/items", True),
        ("/*/x", "/a/b/x", True),
        ("/*/x", "/a/b/y", False),
        ("", "", True),
        ("", "/", False),
    ],
)
def test_a_template_covers_another_one(wide: str, narrow: str, expected: bool) -> None:
    assert covers(_template(wide), _template(narrow)) is expected


def test_every_path_covers_and_is_covered_by_a_lone_star() -> None:
    assert covers(None, _template("/x"))
    assert covers(_template("*"), None)
    assert not covers(_template("/*"), None)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(spelled, spelled, st.data())
def test_a_covering_template_matches_what_the_covered_one_matches(wide: str, narrow: str, data: st.DataObject) -> None:
    outer, inner = _template(wide), _template(narrow)
    if covers(outer, inner):
        path = data.draw(st.from_regex(inner.regex, fullmatch=True))
        assert outer.match(path) is not None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(spelled, spelled, st.data())
def test_no_path_matches_two_disjoint_templates(one: str, other: str, data: st.DataObject) -> None:
    first, second = _template(one), _template(other)
    path = data.draw(st.from_regex(first.regex, fullmatch=True))
    if second.match(path) is not None:
        assert not are_disjoint(first, second)
        assert not are_disjoint(second, first)


def test_a_path_is_disjoint_from_a_pattern_that_does_not_match_it() -> None:
    assert are_disjoint(_template("/a"), _template("/a{}"))
    assert are_disjoint(_template("/a{}"), _template("/a"))
    assert not are_disjoint(_template("/ab"), _template("/a{}"))
    assert not are_disjoint(_template("/ab"), None)


@given(spelled)
def test_a_template_covers_itself(text: str) -> None:
    assert covers(_template(text), _template(text))


@given(st.lists(spelled, max_size=6), spelled)
def test_the_index_finds_every_covering_template(wides: list[str], narrow: str) -> None:
    index: CoverIndex[str] = CoverIndex()
    for wide in wides:
        index.add(_template(wide), wide)
    index.add(None, "everything")
    found = list(index.find(_template(narrow)))
    assert "everything" in found
    assert {wide for wide in wides if covers(_template(wide), _template(narrow))} <= set(found)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("", "", True),
        ("", "/items/{id}", True),
        ("/items/{id}", "/items/1", True),
        ("/items/*", "/orders/*", False),
        ("/items/1", "/items/2", False),
        ("/items/${{env.SHOP}}", "/items/1", False),
    ],
)
def test_texts_of_patterns_may_overlap(first: str, second: str, expected: bool) -> None:
    assert may_overlap(first, second) is expected
    assert may_overlap(second, first) is expected
