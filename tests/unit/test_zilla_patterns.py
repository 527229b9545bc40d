"""Patterns mean here what they mean in the reference, or are refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core.covering import may_overlap
from kafkaproxy.core.names import is_name
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.specs.types import ConditionSpec, EntryConditionSpec, FilePlace
from kafkaproxy.zilla.importer.patterns import entry_pattern, is_checked, methods
from kafkaproxy.zilla.names import Names, entry_name, route_name
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Leaf

_PLACE = FilePlace("zilla.yaml", 1)
_PARTS = st.sampled_from(["/", "a", "b", ".", "*", "-", "1", "{x}", "{y}", ";cid="])
_PATTERNS = (
    st.lists(_PARTS, max_size=6, unique=False).map("".join).filter(lambda text: text.count("{x}") < 2 and text.count("{y}") < 2)
)
_PATHS = st.text(st.sampled_from("/ab.-1;cid="), max_size=8)


def _as_the_reference_does(pattern: str) -> re.Pattern[str]:
    """The transformation that the reference's page describes: '.', then '*', then parameters; the rest stays a regex."""
    text = pattern.replace(".", "\\.").replace("*", ".*")
    return re.compile(re.sub(r"\{([a-zA-Z_]+)\}", r"(?P<\1>.+)", text), re.DOTALL)


@given(_PATTERNS, _PATHS)
def test_an_entry_takes_the_requests_that_the_reference_takes(pattern: str, path: str) -> None:
    theirs = _as_the_reference_does(pattern).fullmatch(path)
    ours = PathTemplate.parse(entry_pattern(pattern)).match(path)
    if ours is not None:
        assert theirs is not None
    elif theirs is not None:  # the one thing that differs: a parameter does not begin with '/'
        assert any(value.startswith("/") for value in theirs.groupdict().values())


@given(st.text(st.sampled_from("/ab*{}x.^$|?+()[]\\"), max_size=8))
def test_a_pattern_is_refused_or_means_the_same(pattern: str) -> None:
    report = ImportReport()
    accepted = is_checked(Leaf(pattern, 1), _PLACE, report)
    assert accepted is not report.is_refused()
    if accepted:
        assert re.fullmatch(r"[/abx.*]|\{[^{}]*\}|", pattern[:0]) is not None
        PathTemplate.parse(entry_pattern(pattern))
        _as_the_reference_does(pattern)


@pytest.mark.parametrize("pattern", ["/items(/.+)?", "/v[12]/*", "a|b", "^/x$", "/a+", "/a\\d"])
def test_regular_expressions_are_refused_with_a_way_out(pattern: str) -> None:
    report = ImportReport()
    assert not is_checked(Leaf(pattern, 1), _PLACE, report)
    assert "write several conditions" in str(report.findings[0])


def test_references_to_the_environment_are_no_regular_expressions() -> None:
    assert is_checked(Leaf("${{env.HOST}}:443", 1), _PLACE, ImportReport())


@pytest.mark.parametrize(
    ("text", "expected"), [("GET", ["GET"]), ("*", [""]), ("GET|POST", ["GET", "POST"]), ("P*", []), ("A B", []), ("", [])]
)
def test_methods_are_one_any_or_alternatives(text: str, expected: list[str]) -> None:
    report = ImportReport()
    assert list(methods(Leaf(text, 1), _PLACE, report)) == expected
    assert report.is_refused() is (expected == [])


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=3), st.text(max_size=12))
def test_names_are_valid_whatever_they_are_made_of(rows: list[tuple[str, str]], topic: str) -> None:
    route = route_name("produce", [ConditionSpec(method=method, path=path) for method, path in rows], topic)
    entry = entry_name([EntryConditionSpec(level=index, path=path) for index, (_, path) in enumerate(rows)], topic)
    for name in (route, entry):
        assert is_name(name)
        assert len(name) <= 91


@given(st.lists(st.sampled_from(["a", "a-2", "b"]), max_size=8))
def test_names_of_one_parent_are_unique(wishes: list[str]) -> None:
    names = Names()
    given_out = [names.take(wish) for wish in wishes]
    assert len(set(given_out)) == len(wishes)


def test_names_say_what_a_route_does() -> None:
    assert route_name("produce", [ConditionSpec(method="PUT", path="/items/{id}")], "t") == "put-items-id"
    assert route_name("fetch", [ConditionSpec(path="/items")], "t") == "fetch-items"
    assert route_name("stream", [], "my.topic") == "stream-my-topic"
    assert entry_name([], "mapping") == "all"
    assert entry_name([EntryConditionSpec(scheme="http")], "mapping") == "mapping"
    assert entry_name([EntryConditionSpec(path="/api/*"), EntryConditionSpec(level=1, path="/x")], "m") == "api-any-x"


@given(_PATTERNS, _PATTERNS, _PATHS)
def test_patterns_that_both_match_something_overlap(one: str, other: str, path: str) -> None:
    if all(not pattern or PathTemplate.parse(pattern).match(path) is not None for pattern in (one, other)):
        assert may_overlap(one, other)


def test_patterns_that_cannot_meet_do_not_overlap() -> None:
    assert not may_overlap("/items/{id}", "/orders/{id}")
    assert not may_overlap("/items", "/items/{id}")
    assert not may_overlap("/*/a", "/*/b")
