"""The ``prefer`` field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.core.prefer import NO_PREFERENCES, Preferences, parse_prefer


@pytest.mark.parametrize(
    ("lines", "respond_async", "wait"),
    [
        (["respond-async"], True, None),
        (["wait=10"], False, 10),
        (["respond-async, wait=10"], True, 10),
        (["wait=10, respond-async"], True, 10),
        (["wait=10;respond-async"], True, 10),  # the reference's separator
        (["wait=10", "respond-async"], True, 10),
        (["Respond-Async,WAIT=10"], True, 10),
        (["wait = 10"], False, 10),
        (["\twait=10 ;"], False, 10),
        (['wait="10"'], False, 10),
        (["wait=10, wait=20"], False, 10),  # RFC 7240 section 2: the first counts
        (["respond-async=please"], True, None),
        (['respond-async="", wait=1'], True, 1),
        (["return=minimal; foo=bar, wait=3"], False, 3),
        (['foo="a, wait=5; b", wait=7'], False, 7),
        (['foo="a\\", wait=5", wait=7'], False, 7),
        (["handling=lenient, wait=100, respond-async"], True, 100),
        ([",, ;wait=2;;,"], False, 2),
        (["wait=999999999"], False, 999_999_999),
        (["wait=" + "9" * 5000], False, 10**9),
    ],
)
def test_preferences_are_found(lines: list[str], respond_async: bool, wait: int | None) -> None:
    assert parse_prefer(lines) == Preferences(respond_async=respond_async, wait=wait)


@pytest.mark.parametrize(
    "line",
    [
        *("", " ", "wait", "wait=", "wait=0", "wait=00", "wait=-1", "wait=1.5", "wait=ten", "wait=10s", "wait=1 0"),
        *("wait=\u0661", '"', "\\", '"\\', 'wait="1\\'),
        *('wait="10', "await=10", "x-wait=10", "wait:10", "respond-async/", 'foo="respond-async"', 'foo="wait=3', "wa it=3"),
    ],
)
def test_what_is_malformed_or_unknown_is_passed_over(line: str) -> None:
    assert parse_prefer([line]) == NO_PREFERENCES


@pytest.mark.timeout(30)
@pytest.mark.parametrize("line", ["a" * 60_000 + '"', "a" + " " * 60_000 + "b", 'a="' * 20_000, "a= " * 20_000, '"\\' * 30_000])
def test_no_line_takes_long_to_read(line: str) -> None:
    parse_prefer([line])  # with backtracking it takes minutes and blocks every other request


@given(st.lists(st.text(max_size=30) | st.text(alphabet='wait=1;,"\\ ', max_size=30), max_size=3))
def test_no_line_breaks_the_parser(lines: list[str]) -> None:
    wait = parse_prefer(lines).wait
    assert wait is None or 0 < wait <= 10**9


@given(st.integers(1, 10**8), st.booleans(), st.permutations(range(4)))
def test_the_order_of_preferences_does_not_matter(wait: int, respond_async: bool, order: list[int]) -> None:
    preferences = [f"wait={wait}", "respond-async" if respond_async else "x", 'foo="a,b"', "return=minimal"]
    line = ", ".join(preferences[each] for each in order)
    assert parse_prefer([line]) == Preferences(respond_async=respond_async, wait=wait)
