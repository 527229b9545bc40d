"""What a trial says of matching is what matching does."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kafkaproxy.admin.pages.tryit_steps import GatewaySteps, steps
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.guards.principals import ClientPrincipal, Principals
from kafkaproxy.routing.matching import Match, Matcher
from kafkaproxy.routing.table import Configuration, Entry, EntryCondition, Gateway, GuardRequirement
from tests.support.proxy import fetch, produce, stream

PATHS = ["/items/1", "/items", "/elsewhere"]
METHODS = ["GET", "PUT", "DELETE", "OPTIONS"]
WHO = [
    Principals({}, {}),
    Principals({"g": ClientPrincipal(identity="a")}, {}),
    Principals({"g": ClientPrincipal(identity="a", roles=frozenset({"r"}))}, {}),
]


@dataclass
class Line:
    method: str
    path: str
    scheme: str = "https"
    authority: str = "example.com:443"
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)


def _configuration(seed: int) -> Configuration:
    """Make gateways of a few entries of a few routes each, guarded and narrowed at random."""
    pick = random.Random(seed).choice
    guarded: list[dict[str, list[str]]] = [{}, {}, {"g": []}, {"g": ["r"]}]
    numbers = itertools.count()

    def route() -> Any:
        kind = pick([fetch, produce, stream])
        condition = pick(["GET ", "PUT ", ""]) + pick(["/items/{id}", "/items", "/*", "*"])
        return kind(condition.strip(), topic="t", name=f"r{next(numbers)}", guarded=pick(guarded))

    def entry() -> Entry:
        level = EntryCondition(path=pick([None, PathTemplate.parse("/items/*")]), method=pick([None, None, "GET"]))
        needs = tuple(GuardRequirement(guard=name, roles=frozenset(roles)) for name, roles in pick(guarded).items())
        levels = pick([(), ((level,),)])
        return Entry(
            name=f"e{next(numbers)}", levels=levels, guarded=needs, routes=tuple(route() for _ in range(pick([0, 1, 3])))
        )

    def one() -> Gateway:
        return Gateway(name=f"g{next(numbers)}", cluster="default", entries=tuple(entry() for _ in range(pick([1, 2, 3]))))

    return Configuration(gateways=tuple(one() for _ in range(pick([1, 2, 3]))))


def _explain(matcher: Matcher, line: Line, principals: Principals) -> list[GatewaySteps]:
    return steps(matcher, line, {each.name: principals for each in matcher.configuration.gateways})


@pytest.mark.parametrize("seed", range(150))
def test_the_route_that_is_said_to_serve_is_the_one_that_does(seed: int) -> None:
    matcher = Matcher(_configuration(seed))
    for method, path, who in itertools.product(METHODS, PATHS, WHO):
        line = Line(method, path)
        candidates = matcher.find(path)
        outcome = matcher.resolve(candidates, line, who) if candidates else None
        told = [step for one in _explain(matcher, line, who) for entry in one.entries for step in entry.routes]
        expected = [outcome.route.name] if isinstance(outcome, Match) else []
        assert [step.name for step in told if step.served] == expected, (line, who)
        assert all(step.reason for step in told)


def test_of_many_routes_with_another_path_only_some_are_named() -> None:
    routes = [fetch(f"GET /other-{number}", topic="t", name=f"r{number}") for number in range(300)]
    entry = Entry(name="all", levels=(), guarded=(), routes=(*routes, fetch("GET /items", topic="t", name="last")))
    matcher = Matcher(Configuration(gateways=(Gateway(name="one", cluster="default", entries=(entry,)),)))
    (one,) = _explain(matcher, Line("GET", "/items"), WHO[0])
    assert [step.name for step in one.entries[0].routes if step.served] == ["last"]
    assert len(one.entries[0].routes) == 21
    assert one.entries[0].others == "280 other routes have other paths"


def test_what_differs_is_named() -> None:
    wants = EntryCondition(authority=PathTemplate.parse("api.example.com:443"), path=PathTemplate.parse("/api/*"))
    entry = Entry(name="narrow", levels=((wants,),), guarded=(), routes=(fetch("*", topic="t"),))
    matcher = Matcher(Configuration(gateways=(Gateway(name="one", cluster="default", entries=(entry,)),)))
    (one,) = _explain(matcher, Line("GET", "/items"), WHO[0])
    assert one.entries[0].reason == "its conditions want another host and port, path"
    (one,) = _explain(matcher, replace(Line("GET", "/api/x"), authority="api.example.com:443"), WHO[0])
    assert one.entries[0].chosen
