"""Why a request is served by a route and by no other: told by the matcher, for every gateway, entry and route."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from kafkaproxy.routing.matching import Match, Matcher, Part, Refused, RequestLine, RolePrincipal, Trace, differences
from kafkaproxy.routing.table import Entry, Gateway, GuardRequirement, Route

__all__ = ["EntryExplanation", "GatewayExplanation", "Reason", "RouteExplanation", "explain"]


class Reason(Enum):
    """What became of a gateway, an entry or a route."""

    TAKEN = auto()
    """It was looked into (a gateway), chosen (an entry), or serves the request (a route)."""
    NOT_TRIED = auto()
    """Another one was taken before."""
    OTHER_PATH = auto()
    """It has no route (a gateway) or no condition (a route) for the path."""
    OTHER_METHOD = auto()
    """A route: its conditions for the path have other methods."""
    DIFFERS = auto()
    """An entry: none of the conditions of one of its levels matches."""
    REFUSED = auto()
    """Its guards refuse the request."""


@dataclass(frozen=True, slots=True)
class RouteExplanation:
    """A route of the entry that was chosen."""

    route: Route
    verdict: Reason
    methods: frozenset[str] = frozenset()
    """OTHER_METHOD: the methods that it serves for the path."""
    guards: tuple[GuardRequirement, ...] = ()
    """REFUSED: the requirements that are not met."""


@dataclass(frozen=True, slots=True)
class EntryExplanation:
    """An entry of a gateway that was looked into; its routes where it was chosen."""

    entry: Entry
    verdict: Reason
    parts: tuple[Part, ...] = ()
    """DIFFERS: the parts of the request that do not match."""
    guards: tuple[GuardRequirement, ...] = ()
    """REFUSED: the requirements that are not met."""
    routes: tuple[RouteExplanation, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayExplanation:
    """A gateway; its entries where it was looked into."""

    gateway: Gateway
    verdict: Reason
    entries: tuple[EntryExplanation, ...] = ()


def explain(
    matcher: Matcher, request: RequestLine, principals: Mapping[str, Mapping[str, RolePrincipal]]
) -> list[GatewayExplanation]:
    """Match the request once more and return what became of every gateway, in order.

    ``principals``: by gateway, what its guards said of the client; a gateway that is missing asked none.
    """
    leading = {gateway.name: found for gateway, found in matcher.split(matcher.find(request.path))}
    told = []
    decided = False
    for gateway in matcher.configuration.gateways:
        candidates = leading.get(gateway.name)
        if decided or candidates is None:
            told.append(GatewayExplanation(gateway, Reason.NOT_TRIED if decided else Reason.OTHER_PATH))
            continue
        trace = Trace()
        outcome = matcher.resolve(candidates, request, principals.get(gateway.name, {}), trace)
        decided = isinstance(outcome, (Match, Refused))
        served = outcome.route if isinstance(outcome, Match) else None
        with_path = {each.order[2] for each, _ in candidates if each.order[1] == trace.chosen}
        told.append(GatewayExplanation(gateway, Reason.TAKEN, tuple(_entries(gateway, request, trace, with_path, served))))
    return told


def _entries(
    gateway: Gateway, request: RequestLine, trace: Trace, with_path: set[int], served: Route | None
) -> Iterator[EntryExplanation]:
    for number, entry in enumerate(gateway.entries):
        if number == trace.chosen:
            yield EntryExplanation(entry, Reason.TAKEN, routes=tuple(_routes(entry, trace, with_path, served)))
        elif trace.chosen is not None and number > trace.chosen:
            yield EntryExplanation(entry, Reason.NOT_TRIED)
        elif (refusing := trace.refused_entries.get(number)) is not None:
            yield EntryExplanation(entry, Reason.REFUSED, guards=_unmet(entry.guarded, refusing))
        else:
            yield EntryExplanation(entry, Reason.DIFFERS, parts=tuple(differences(entry, request)))


def _routes(entry: Entry, trace: Trace, with_path: set[int], served: Route | None) -> Iterator[RouteExplanation]:
    for number, route in enumerate(entry.routes):
        if number not in with_path:
            yield RouteExplanation(route, Reason.OTHER_PATH)
        elif route is served:
            yield RouteExplanation(route, Reason.TAKEN)
        elif (refusing := trace.refused_routes.get(number)) is not None:
            yield RouteExplanation(route, Reason.REFUSED, guards=_unmet(route.guarded, refusing))
        elif (methods := trace.methods.get(number)) is not None:
            yield RouteExplanation(route, Reason.OTHER_METHOD, methods=methods)
        else:
            yield RouteExplanation(route, Reason.NOT_TRIED)


def _unmet(guarded: tuple[GuardRequirement, ...], refusing: list[str]) -> tuple[GuardRequirement, ...]:
    return tuple(each for each in guarded if each.guard in refusing)
