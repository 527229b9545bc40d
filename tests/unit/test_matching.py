"""Matching, compared with a reading of its rules word by word (the contract, *Matching*)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kafkaproxy.core.capabilities import served_methods
from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.routing.matching import Match, Matcher, NotAllowed, Refused
from kafkaproxy.routing.table import (
    Capability,
    Condition,
    Configuration,
    Entry,
    EntryCondition,
    Gateway,
    GuardRequirement,
    Route,
)
from tests.support.proxy import fetch, gateway, produce, stream


@dataclass
class Line:
    """A request line."""

    method: str = "GET"
    path: str = "/"
    scheme: str = "https"
    authority: str = "example.com:443"
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass
class Principal:
    """A principal with roles."""

    roles: frozenset[str] = frozenset()
    identity: str = "alice"
    attributes: Mapping[str, str] = field(default_factory=dict)

    def holds(self, roles: Collection[str]) -> bool:
        return self.roles >= set(roles)


def resolve(line: Line, *gateways: Gateway, **principals: Principal) -> Match | Refused | NotAllowed | None:
    matcher = Matcher(Configuration(gateways=gateways))
    candidates = matcher.find(line.path)
    return matcher.resolve(candidates, line, principals) if candidates else None


def name_of(outcome: object) -> str:
    assert isinstance(outcome, Match), outcome
    return outcome.route.name


# One by one

ITEMS = (
    produce("POST /items", topic="c", name="create"),
    produce("PUT /items/{id}", "DELETE /items/{id}", topic="c", name="change"),
    fetch("GET /items", topic="s", merge=True, name="all"),
    fetch("GET /items/{id}", topic="s", name="one"),
    stream("GET /events", topic="s", name="events"),
)


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/items", "create"),
        ("PUT", "/items/1", "change"),
        ("DELETE", "/items/1", "change"),
        ("GET", "/items", "all"),
        ("HEAD", "/items", "all"),
        ("GET", "/items/1", "one"),
        ("HEAD", "/items/a%2Fb", "one"),
        ("GET", "/events", "events"),
    ],
)
def test_a_route_serves_its_methods_and_paths(method: str, path: str, route: str) -> None:
    assert name_of(resolve(Line(method, path), gateway(*ITEMS))) == route


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/items", {"POST", "GET", "HEAD"}),
        ("POST", "/items/1", {"PUT", "DELETE", "GET", "HEAD"}),
        ("HEAD", "/events", {"GET"}),
        ("get", "/events", {"GET"}),
    ],
)
def test_a_path_without_that_method_says_which_it_has(method: str, path: str, allow: set[str]) -> None:
    outcome = resolve(Line(method, path), gateway(*ITEMS))
    assert isinstance(outcome, NotAllowed)
    assert outcome.allow == allow


@pytest.mark.parametrize("path", ["/", "/item", "/items/", "/items/1/2", "//items", "/ITEMS", "items"])
def test_any_other_path_is_the_sites(path: str) -> None:
    assert resolve(Line("GET", path), gateway(*ITEMS)) is None


@pytest.mark.parametrize(
    ("capability", "method", "served"),
    [
        (Capability.PRODUCE, None, {"POST", "PUT", "PATCH", "DELETE"}),
        (Capability.FETCH, None, {"GET", "HEAD"}),
        (Capability.FETCH, "GET", {"GET", "HEAD"}),
        (Capability.FETCH, "HEAD", {"HEAD"}),
        (Capability.STREAM, None, {"GET"}),
        (Capability.STREAM, "GET", {"GET"}),
        (Capability.PRODUCE, "POST", {"POST"}),
    ],
)
def test_what_a_condition_serves_depends_on_the_capability(
    capability: Capability, method: str | None, served: set[str]
) -> None:
    assert served_methods(capability, method) == served  # D3


def test_parameters_come_from_the_routes_condition_undecoded() -> None:
    routes = fetch("GET /a/{x}", "GET /{x}/b/{y}", topic="t", name="two")
    outcome = resolve(Line("GET", "/%41/b/c%20d"), gateway(routes))
    assert isinstance(outcome, Match)
    assert outcome.params == {"x": "%41", "y": "c%20d"}


def test_an_entry_that_matches_without_a_route_hides_later_ones() -> None:
    first = Entry(name="first", levels=((EntryCondition(path=PathTemplate.parse("/items/*")),),), guarded=(), routes=())
    second = Entry(name="second", levels=(), guarded=(), routes=ITEMS)
    both = Gateway(name="g", cluster="default", entries=(first, second))
    assert resolve(Line("GET", "/items/1"), both) is None
    assert name_of(resolve(Line("GET", "/items"), both)) == "all"


def test_the_location_of_an_async_reply_is_polled_before_anything_else_and_is_never_produced() -> None:
    route = produce(
        "/items/{id}",
        "/{other}",
        topic="c",
        reply_to="r",
        async_={"location": "/items/${params.id};cid=${correlationId}"},
        name="async",
    )
    outcome = resolve(Line("GET", "/items/1;cid=2"), gateway(route))
    assert isinstance(outcome, Match)
    assert (outcome.poll, outcome.params) == (True, {"id": "1", "correlationId": "2"})
    put = resolve(Line("PUT", "/items/1;cid=2"), gateway(route))
    assert isinstance(put, Match)
    assert not put.poll
    assert isinstance(resolve(Line("GET", "/items/1"), gateway(route)), NotAllowed)


@pytest.mark.parametrize(
    ("condition", "line", "matches"),
    [
        (EntryCondition(scheme=PathTemplate.parse("https")), Line(), True),
        (EntryCondition(scheme=PathTemplate.parse("http")), Line(), False),
        (EntryCondition(authority=PathTemplate.parse("example.com:443")), Line(), True),
        (EntryCondition(authority=PathTemplate.parse("*.com:443")), Line(), True),
        (EntryCondition(authority=PathTemplate.parse("other:*")), Line(), False),
        (EntryCondition(method="GET"), Line(), True),
        (EntryCondition(method="PUT"), Line(), False),
        (EntryCondition(path=PathTemplate.parse("/*")), Line(), True),
        (EntryCondition(path=PathTemplate.parse("/x")), Line(), False),
        (EntryCondition(headers=((b"x-tenant", PathTemplate.parse("a*")),)), Line(fields=[(b"x-tenant", b"abc")]), True),
        (EntryCondition(headers=((b"x-tenant", PathTemplate.parse("a*")),)), Line(fields=[(b"x-tenant", b"b")]), False),
        (
            EntryCondition(headers=((b"x-tenant", PathTemplate.parse("a*")),)),
            Line(fields=[(b"x-tenant", b"b"), (b"x-tenant", b"a")]),
            True,
        ),
        (EntryCondition(headers=((b"x-tenant", PathTemplate.parse("*")),)), Line(), False),
        (EntryCondition(method="GET", scheme=PathTemplate.parse("http")), Line(), False),
    ],
)
def test_every_part_of_an_entrys_condition_counts(condition: EntryCondition, line: Line, matches: bool) -> None:
    entry = Entry(name="e", levels=((condition,),), guarded=(), routes=(fetch("*", topic="t"),))
    assert (resolve(line, Gateway(name="g", cluster="default", entries=(entry,))) is not None) == matches


def test_what_may_be_kept_for_the_next_request_depends_on_more_than_the_line_nowhere() -> None:
    guarded = fetch("/guarded", topic="t", guarded={"jwt": ()})
    by_field = Entry(
        name="e",
        levels=((EntryCondition(headers=((b"x", PathTemplate.parse("*")),)),),),
        guarded=(),
        routes=(fetch("/field", topic="t"),),
    )
    by_scheme = Entry(
        name="e",
        levels=((EntryCondition(scheme=PathTemplate.parse("https")),),),
        guarded=(),
        routes=(fetch("/scheme", topic="t"),),
    )
    gateways = (
        gateway(fetch("/plain", topic="t")),
        gateway(guarded, name="2"),
        Gateway(name="3", cluster="c", entries=(by_field,)),
        Gateway(name="4", cluster="c", entries=(by_scheme,)),
    )
    matcher = Matcher(Configuration(gateways=gateways))
    kinds = {path: matcher.find(path) for path in ("/plain", "/guarded", "/field", "/scheme")}
    assert {path: matcher.is_simple(found) for path, found in kinds.items()} == {
        "/plain": True,
        "/guarded": False,
        "/field": False,
        "/scheme": False,
    }
    assert {path: matcher.is_plain(found) for path, found in kinds.items()} == {
        "/plain": True,
        "/guarded": False,
        "/field": False,
        "/scheme": True,
    }
    assert matcher.guards(kinds["/guarded"]) == {"jwt"}
    assert matcher.guards(kinds["/plain"]) == frozenset()


# Against the contract, *Matching*, read word by word

PATHS = ["/a", "/a/b", "/b", "/*", "/{x}", "/a/{x}", "/{x}/b", "*"]
METHODS = [None, "GET", "POST", "PUT"]
GUARDS = st.dictionaries(st.sampled_from(["g", "h"]), st.sets(st.sampled_from(["r", "s"]), max_size=2), max_size=2)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    capability = draw(st.sampled_from(list(Capability)))
    when = [
        Condition(method=draw(st.sampled_from(METHODS)), path=None if text == "*" else PathTemplate.parse(text))
        for text in draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=2))
    ]
    guarded = tuple(GuardRequirement(guard=name, roles=frozenset(roles)) for name, roles in draw(GUARDS).items())
    name = f"r{draw(st.integers(0, 10**9))}"
    topic = Template.parse("t", TemplatePlace.TOPIC)
    return Route(name=name, capability=capability, cluster="default", topic=topic, conditions=tuple(when), guarded=guarded)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    level = st.lists(
        st.builds(
            EntryCondition,
            path=st.sampled_from([None, "/a", "/a*", "/*", "/{x}"]).map(
                lambda text: None if text is None else PathTemplate.parse(text)
            ),
            method=st.sampled_from([None, "GET", "POST"]),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple)
    guarded = tuple(GuardRequirement(guard=name, roles=frozenset(roles)) for name, roles in draw(GUARDS).items())
    return Entry(
        name="e",
        levels=tuple(draw(st.lists(level, max_size=2))),
        guarded=guarded if draw(st.booleans()) else (),
        routes=tuple(draw(st.lists(routes(), max_size=3))),
    )


GATEWAYS = st.lists(
    st.lists(entries(), max_size=3).map(lambda each: Gateway(name="g", cluster="default", entries=tuple(each))), max_size=3
)
PRINCIPALS = st.dictionaries(
    st.sampled_from(["g", "h"]), st.sets(st.sampled_from(["r", "s"])).map(lambda roles: Principal(frozenset(roles))), max_size=2
)


def by_the_contract(line: Line, gateways: list[Gateway], principals: Mapping[str, Principal]) -> tuple[str, object]:
    """Say what the rules say (the contract, *Matching*), trying everything in order."""
    allow: set[str] = set()
    for each in gateways:
        refused: set[str] = set()
        for entry in each.entries:
            if not all(any(_passes(condition, line) for condition in level) for level in entry.levels):
                continue
            leading = [
                (route, served_methods(route.capability, condition.method))
                for route in entry.routes
                for condition in route.conditions
                if condition.path is None or condition.path.match(line.path) is not None
            ]
            if failing := _refusing(entry.guarded, principals):
                refused |= failing if leading else set()
                continue
            for route, methods in leading:
                if line.method not in methods:
                    continue
                if failing := _refusing(route.guarded, principals):
                    refused |= failing
                else:
                    return "match", route
            if not refused:
                allow |= {method for _, methods in leading for method in methods}
            break
        if refused:
            return "refused", frozenset(refused)
    return ("not allowed", frozenset(allow)) if allow else ("site", None)


def _passes(condition: EntryCondition, line: Line) -> bool:
    return (condition.path is None or condition.path.match(line.path) is not None) and condition.method in (None, line.method)


def _refusing(guarded: tuple[GuardRequirement, ...], principals: Mapping[str, Principal]) -> set[str]:
    return {each.guard for each in guarded if each.guard not in principals or not principals[each.guard].holds(each.roles)}


@settings(max_examples=200)
@given(
    GATEWAYS,
    st.sampled_from(["/a", "/b", "/a/b", "/a/c", "/c/b", "/"]),
    st.sampled_from(["GET", "HEAD", "POST", "PUT"]),
    PRINCIPALS,
)
def test_matching_is_what_the_contract_says(
    gateways: list[Gateway], path: str, method: str, principals: dict[str, Principal]
) -> None:
    line = Line(method, path)
    kind, what = by_the_contract(line, gateways, principals)
    outcome = resolve(line, *gateways, **principals)
    match outcome:
        case Match():
            assert (kind, what) == ("match", outcome.route)
        case Refused():
            assert (kind, what) == ("refused", outcome.guards)
        case NotAllowed():
            assert (kind, what) == ("not allowed", outcome.allow)
        case None:
            assert kind == "site"
