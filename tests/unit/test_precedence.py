"""Routes that an earlier gateway hides."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kafkaproxy.core.covering import are_disjoint
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.routing.matching import Match, Matcher
from kafkaproxy.routing.table import Configuration, Entry, EntryCondition, Gateway
from kafkaproxy.routing.unreachable import shadowed_by_gateways
from kafkaproxy.specs.types import ConditionSpec, EntryConditionSpec, EntrySpec, GatewaySpec, RouteSpec
from tests.support.proxy import fetch

Spec = tuple[list[dict[str, str]], list[str]]
"""An entry: its conditions (one level), and the conditions of its routes, ``"GET /items"``."""


def text(name: str, *entries: Spec, **more: Any) -> GatewaySpec:
    """Make a gateway as written."""
    made = tuple(_entry_spec(f"e{number}", *entry, **more) for number, entry in enumerate(entries))
    return GatewaySpec(name=name, cluster="default", entries=made)


def _entry_spec(name: str, when: list[dict[str, str]], routes: list[str], **more: Any) -> EntrySpec:
    named = tuple(
        RouteSpec(
            name=f"{name}r{number}", capability="fetch", topic="t", conditions=(ConditionSpec(*each.split(" ", 1)),), **more
        )
        for number, each in enumerate(routes)
    )
    return EntrySpec(name=name, conditions=tuple(EntryConditionSpec(**each) for each in when), routes=named)


def compiled(name: str, *entries: Spec) -> Gateway:
    """Make the same gateway as it serves."""
    made = []
    for number, (when, routes) in enumerate(entries):
        level = tuple(_condition(each) for each in when)
        named = tuple(fetch(each, topic="t", name=f"{name}/e{number}r{index}") for index, each in enumerate(routes))
        made.append(Entry(name=f"e{number}", levels=(level,) if level else (), guarded=(), routes=named))
    return Gateway(name=name, entries=tuple(made), cluster="default")


def _condition(when: dict[str, str]) -> EntryCondition:
    path, authority = when.get("path"), when.get("authority")
    return EntryCondition(
        path=None if path is None else PathTemplate.parse(path),
        authority=None if authority is None else PathTemplate.parse(authority),
        method=when.get("method"),
        scheme=None,
        headers=(),
    )


def hidden(*gateways: GatewaySpec) -> list[tuple[str, str, str]]:
    return [(each.gateway, each.issue.subject, each.by) for each in shadowed_by_gateways(gateways)]


ALL: list[dict[str, str]] = []


def test_a_route_that_an_earlier_gateway_serves_is_told_with_what_hides_it() -> None:
    (found,) = shadowed_by_gateways([text("shop", (ALL, ["GET /items/*"])), text("api", (ALL, ["GET /items/{id}", "GET /x"]))])
    assert (found.gateway, found.entry, found.by, found.issue.subject) == ("api", "e0", "shop", "e0r0")
    assert (found.issue.field, found.issue.index, found.issue.code) == ("conditions", 0, "shadowed")
    assert "the gateway “shop” comes first, and its route “e0r0” takes “GET /items/*”" in found.issue.message


def test_one_gateway_hides_nothing_of_itself_here() -> None:
    assert hidden(text("shop", (ALL, ["GET /items/*", "GET /items/{id}"]))) == []


def test_guards_of_the_earlier_gateway_do_not_let_the_later_one_serve() -> None:
    guarded = text("shop", (ALL, ["GET /items"]), guarded={"jwt": ["admin"]})
    assert hidden(guarded, text("api", (ALL, ["GET /items"]))) == [("api", "e0r0", "shop")]


@pytest.mark.parametrize(
    ("first", "hides"),
    [
        ([([{"authority": "a.example:443"}], ["GET /x"])], False),
        ([([{"authority": "*"}], ["GET /x"])], True),
        ([([{"method": "PUT"}], ["GET /x"])], False),
        ([([{"path": "/x*"}], ["GET /x"])], True),
        ([([{"path": "/y*"}], ["GET /x"])], False),
        ([([{"path": "/y*"}], ["GET /y"]), (ALL, ["GET /x"])], True),  # the first entry is not for it
        ([([{"path": "/*"}], ["GET /y"]), (ALL, ["GET /x"])], False),  # the first entry takes it, and has no route
        ([([{"path": "/*", "method": "PUT"}], ["GET /y"]), (ALL, ["GET /x"])], True),
        ([([{"authority": "b.example:443"}], ["GET /y"]), (ALL, ["GET /x"])], False),  # perhaps it takes it
        ([(ALL, ["PUT /x"])], False),
        ([(ALL, ["GET /{id}"])], True),
        ([(ALL, ["GET /x/*"])], False),
    ],
)
def test_what_an_earlier_gateway_takes(first: list[Spec], hides: bool) -> None:
    assert hidden(text("first", *first), text("second", (ALL, ["GET /x"]))) == ([("second", "e0r0", "first")] if hides else [])


def test_an_entry_that_is_narrower_needs_less_to_be_hidden() -> None:
    first = text("first", ([{"authority": "a:1", "path": "/x*"}], ["GET *"]))
    second = text("second", ([{"authority": "a:1"}, {"authority": "a:1", "method": "PUT"}], ["GET /x/{id}", "GET /y"]))
    assert hidden(first, second) == [("second", "e0r0", "first")]


def test_what_is_malformed_hides_nothing_and_harms_nothing() -> None:
    broken = text("broken", ([{"path": "{"}], ["GET /x"]))
    second, third = text("second", (ALL, ["GET {", "GET /x"])), text("third", (ALL, ["GET /x"]))
    assert hidden(broken, second, third) == [("third", "e0r0", "second")]


@dataclass
class Line:
    method: str
    path: str
    authority: str
    scheme: str = "https"
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)


PATHS = ["/a", "/a/b", "/b", "/b/a", "/"]
TEMPLATES = ["/a", "/{p}", "/a/*", "*", "/*", "/a/{p}", "/{p}/{q}", "/b*", "*a"]
WHEN = st.fixed_dictionaries(
    {},
    optional={
        "path": st.sampled_from(TEMPLATES),
        "authority": st.sampled_from(["x:1", "y:1", "*", "x*"]),
        "method": st.sampled_from(["GET", "PUT"]),
    },
)
ROUTES = st.lists(
    st.builds("{} {}".format, st.sampled_from(["GET", "PUT"]), st.sampled_from(TEMPLATES)), min_size=1, max_size=2
)
ENTRIES = st.lists(st.tuples(st.lists(WHEN, max_size=2), ROUTES), min_size=1, max_size=3)


@settings(max_examples=400, deadline=None)
@given(gateways=st.lists(ENTRIES, min_size=2, max_size=3))
def test_what_is_told_to_be_hidden_never_serves(gateways: list[list[Spec]]) -> None:
    names = [f"g{number}" for number in range(len(gateways))]
    told = {
        f"{each.gateway}/{each.issue.subject}"
        for each in shadowed_by_gateways([text(n, *g) for n, g in zip(names, gateways, strict=True)])
    }
    matcher = Matcher(
        Configuration(version=1, gateways=tuple(compiled(n, *g) for n, g in zip(names, gateways, strict=True)), clusters={})
    )
    for path, method, authority in product(PATHS, ("GET", "HEAD", "PUT"), ("x:1", "y:1")):
        if found := matcher.find(path):
            outcome = matcher.resolve(found, Line(method, path, authority), {})
            assert not (isinstance(outcome, Match) and outcome.route.name in told)


@given(one=st.sampled_from(TEMPLATES), other=st.sampled_from(TEMPLATES), path=st.text("/ab", max_size=5))
def test_templates_that_are_apart_match_no_path_both(one: str, other: str, path: str) -> None:
    first, second = PathTemplate.parse(one), PathTemplate.parse(other)
    if are_disjoint(first, second):
        assert first.match(path) is None or second.match(path) is None


@pytest.mark.parametrize(
    ("one", "other", "is_apart"),
    [
        ("/a", "/b", True),
        ("/a/*", "/b/*", True),
        ("*x", "*y", True),
        ("/a", "/a/a", True),
        ("/a*", "/ab", False),
        ("/{p}", "/a", False),
    ],
)
def test_what_the_ends_tell(one: str, other: str, is_apart: bool) -> None:
    assert are_disjoint(PathTemplate.parse(one), PathTemplate.parse(other)) is is_apart
