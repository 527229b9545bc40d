"""Matching: which route serves a request.

A gateway's entries are tried in order (the contract, *Matching*): the first whose conditions match and whose guards
pass is *the* entry; inside it the first route whose condition matches and whose guards pass serves the request. An index
over all route paths finds the few candidates first, so the cost does not grow with the number of routes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from typing import Final, Protocol

from kafkaproxy.core.capabilities import served_methods
from kafkaproxy.core.expressions import Principal
from kafkaproxy.core.index import PathIndex
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.routing.table import (
    Condition,
    Configuration,
    Entry,
    EntryCondition,
    Gateway,
    GuardRequirement,
    Route,
)

__all__ = ["Candidate", "Match", "Matcher", "NotAllowed", "Outcome", "Part", "Refused", "RequestLine", "RolePrincipal", "Trace"]
__all__ += ["differences", "join"]

_ANY: Final = Condition(method=None, path=None)


class RolePrincipal(Principal, Protocol):
    """A principal that can be asked for roles."""

    def holds(self, roles: Collection[str]) -> bool:
        """Return True if the principal has every one of ``roles``."""
        ...


class RequestLine(Protocol):
    """What conditions look at. ``path`` is raw and without query; ``authority`` has its port; ``fields`` are lower case."""

    method: str
    scheme: str
    fields: list[tuple[bytes, bytes]]

    @property
    def path(self) -> str:
        """The raw path."""
        ...

    @property
    def authority(self) -> str:
        """The host with its port."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A condition of a route whose path may match, with its place in the whole order."""

    order: tuple[int, int, int, int]
    """Gateway, entry, route, condition."""
    template: PathTemplate | None
    methods: frozenset[str]
    route: Route
    poll: bool
    """True if this is the location of the route's async replies."""
    guards: frozenset[str]
    """The guards that the route requires or reads."""


@dataclass(slots=True)
class Match:
    """The route that serves the request, and its raw path parameters."""

    gateway: Gateway
    entry: Entry
    route: Route
    params: Mapping[str, str]
    poll: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Guards refuse everything that matches: 401 without a valid credential, else 403."""

    gateway: Gateway
    guards: frozenset[str]
    """The guards that refused."""


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """The path matches, the method does not: 405."""

    gateway: Gateway
    allow: frozenset[str]


class Part(Enum):
    """A part of a request that a condition of an entry looks at."""

    METHOD = "method"
    SCHEME = "scheme"
    AUTHORITY = "authority"
    PATH = "path"
    FIELD = "field"


@dataclass(slots=True)
class Trace:
    """How :meth:`Matcher.resolve` came to its outcome in one gateway. Entries and routes are known by their numbers, from 0.

    An entry before ``chosen`` that is not in ``refused_entries`` has conditions that do not match.
    """

    chosen: int | None = None
    """The entry whose conditions match and whose guards pass."""
    refused_entries: dict[int, list[str]] = field(default_factory=dict)
    """The entries whose conditions match, and the guards of each that refuse the request."""
    methods: dict[int, frozenset[str]] = field(default_factory=dict)
    """The routes of the chosen entry that were passed over for their methods, and these."""
    refused_routes: dict[int, list[str]] = field(default_factory=dict)
    """The routes of the chosen entry whose path and method match, and the guards of each that refuse the request."""


@dataclass(frozen=True, slots=True)
class _GatewayIndex:
    gateway: Gateway
    entries: PathIndex[int]
    guards: frozenset[str]
    """The guards of its entries."""
    plain: bool
    """True if only path, method, scheme and authority decide about entries."""
    simple: bool
    """True if there is just one entry, which lets everything in: only routes decide."""


Outcome = Match | Refused | NotAllowed | None
"""What comes of a request; None: no entry leads to a route of its path."""
Found = tuple[Candidate, Mapping[str, str] | None]
"""A candidate whose path matches, and its raw parameters."""
Principals = Mapping[str, RolePrincipal]


class Matcher:
    """A configuration, indexed. Immutable; a process swaps the whole of it."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._gateways = tuple(_index_gateway(gateway) for gateway in configuration.gateways)
        self._routes = PathIndex((each.template, each) for each in _candidates(configuration.gateways))

    def find(self, path: str) -> list[Found]:
        """Return the candidates whose path matches, in order; empty: the request belongs to the wrapped site."""
        found: list[Found] = []
        for each in self._routes.find(path):
            if each.template is None:
                found.append((each, None))
            elif (matched := each.template.match(path)) is not None:
                found.append((each, matched))
        if len(found) > 1:
            found.sort(key=_order)
        return found

    def split(self, candidates: Iterable[Found]) -> Iterator[tuple[Gateway, list[Found]]]:
        """Yield the gateways of the candidates in order, each with its own."""
        for index, group in groupby(candidates, key=_gateway_order):
            yield self._gateways[index].gateway, list(group)

    def preflight(
        self, candidates: Iterable[Found], request: RequestLine, method: str | None
    ) -> tuple[Gateway, list[Route]] | None:
        """Return the gateway that a request with ``method`` would belong to, and its routes for that path.

        Guards are not asked, nor are conditions on fields: a preflight does not have those of the request. None: no entry
        leads to a route.
        """
        open_to: list[Found] = [found for found in candidates if self._is_open(found[0], request, method)]
        serving = [found for found in open_to if method is None or method in found[0].methods]
        for gateway, _ in self.split(serving or open_to):
            return gateway, [each.route for each, _ in open_to if self._gateways[each.order[0]].gateway is gateway]
        return None

    def _is_open(self, candidate: Candidate, request: RequestLine, method: str | None) -> bool:
        entry = self._gateways[candidate.order[0]].gateway.entries[candidate.order[1]]
        return all(any(_line_matches(each, request, method) for each in level) for level in entry.levels)

    def guards(self, candidates: Sequence[Found]) -> frozenset[str]:
        """Return the guards whose answer the candidates may depend on: their routes' and their gateways' entries'."""
        names: frozenset[str] = frozenset()
        for each, _ in candidates:
            names |= each.guards | self._gateways[each.order[0]].guards
        return names

    def is_plain(self, candidates: Iterable[Found]) -> bool:
        """Return True if path, method, scheme and authority alone decide about these candidates."""
        return all(self._gateways[each.order[0]].plain and not each.guards for each, _ in candidates)

    def is_simple(self, candidates: Iterable[Found]) -> bool:
        """Return True if path and method alone decide about these candidates."""
        return all(self._gateways[each.order[0]].simple and not each.guards for each, _ in candidates)

    def resolve(
        self, candidates: Sequence[Found], request: RequestLine, principals: Principals, trace: Trace | None = None
    ) -> Match | Refused | NotAllowed | None:
        """Return what serves the request, or why nothing does; None: no entry leads to a route of this path.

        A gateway whose guards refuse the request ends the search: what it protects is not served by a later one. ``trace`` is
        filled in where it is given; the candidates are of one gateway then.
        """
        first = self._gateways[candidates[0][0].order[0]]
        if first.simple and trace is None:
            for each, matched in candidates:
                if each.guards or self._gateways[each.order[0]] is not first:
                    break
                if request.method in each.methods:
                    return _matched(first.gateway, first.gateway.entries[0], each, matched)
        not_allowed: NotAllowed | None = None
        for index, group in groupby(candidates, key=_gateway_order):
            outcome = _resolve_gateway(self._gateways[index], list(group), request, principals, trace)
            if isinstance(outcome, (Match, Refused)):
                return outcome
            not_allowed = join(not_allowed, outcome)
        return not_allowed


def _order(found: Found) -> tuple[int, int, int, int]:
    return found[0].order


def _gateway_order(found: Found) -> int:
    return found[0].order[0]


def join(first: NotAllowed | None, second: NotAllowed | None) -> NotAllowed | None:
    """Return what two gateways that do not serve a method allow together."""
    if first is None or second is None:
        return first or second
    return NotAllowed(first.gateway, first.allow | second.allow)


def _resolve_gateway(
    index: _GatewayIndex, candidates: list[Found], request: RequestLine, principals: Principals, trace: Trace | None
) -> Match | Refused | NotAllowed | None:
    """Find the entry, then the route. ``candidates`` are all of this gateway."""
    wanted = {each.order[1] for each, _ in candidates}
    refused: set[str] = set()
    for number in sorted(set(index.entries.find(request.path))):
        entry = index.gateway.entries[number]
        if not _entry_matches(entry, request):
            continue
        failing = _failing(entry.guarded, principals)
        if failing:
            if trace is not None:
                trace.refused_entries[number] = failing
            if number in wanted:
                refused.update(failing)
            continue
        if trace is not None:
            trace.chosen = number
        inside = [found for found in candidates if found[0].order[1] == number]
        return _resolve_entry(index.gateway, entry, inside, request, principals, refused, trace)
    return Refused(index.gateway, frozenset(refused)) if refused else None


def _resolve_entry(
    gateway: Gateway,
    entry: Entry,
    candidates: list[Found],
    request: RequestLine,
    principals: Principals,
    refused: set[str],
    trace: Trace | None,
) -> Match | Refused | NotAllowed | None:
    allow: set[str] = set()
    for each, matched in candidates:
        if request.method not in each.methods:
            allow |= each.methods
            if trace is not None:
                trace.methods[each.order[2]] = trace.methods.get(each.order[2], frozenset()) | each.methods
            continue
        failing = _failing(each.route.guarded, principals)
        if not failing:
            return _matched(gateway, entry, each, matched)
        if trace is not None:
            trace.refused_routes[each.order[2]] = failing
        refused.update(failing)
    if refused:
        return Refused(gateway, frozenset(refused))
    return NotAllowed(gateway, frozenset(allow)) if allow else None


def _matched(gateway: Gateway, entry: Entry, candidate: Candidate, found: Mapping[str, str] | None) -> Match:
    return Match(gateway, entry, candidate.route, found or {}, candidate.poll)


def _failing(requirements: tuple[GuardRequirement, ...], principals: Principals) -> list[str]:
    """Return the guards that do not let the request through; a guard without an answer refuses."""
    return [
        each.guard
        for each in requirements
        if (principal := principals.get(each.guard)) is None or not principal.holds(each.roles)
    ]


def _entry_matches(entry: Entry, request: RequestLine) -> bool:
    return all(any(_condition_matches(each, request) for each in level) for level in entry.levels)


def differences(entry: Entry, request: RequestLine) -> list[Part]:
    """Return the parts of the request that keep the entry from matching; empty where it matches."""
    for level in entry.levels:
        parts = [list(_differences(each, request)) for each in level]
        if all(parts):
            differing = {part for each in parts for part in each}
            return [part for part in Part if part in differing]
    return []


def _condition_matches(condition: EntryCondition, request: RequestLine) -> bool:
    return next(_differences(condition, request), None) is None


def _differences(condition: EntryCondition, request: RequestLine) -> Iterator[Part]:
    yield from _line_differences(condition, request, request.method)
    if not all(_field_fits(name, pattern, request.fields) for name, pattern in condition.headers):
        yield Part.FIELD


def _line_matches(condition: EntryCondition, request: RequestLine, method: str | None) -> bool:
    """Return True if everything but the fields matches; None for the method is any."""
    return next(_line_differences(condition, request, method), None) is None


def _line_differences(condition: EntryCondition, request: RequestLine, method: str | None) -> Iterator[Part]:
    if condition.method is not None and method is not None and condition.method != method:
        yield Part.METHOD
    if not _fits(condition.path, request.path):
        yield Part.PATH
    if not _fits(condition.scheme, request.scheme):
        yield Part.SCHEME
    if not _fits(condition.authority, request.authority):
        yield Part.AUTHORITY


def _fits(pattern: PathTemplate | None, text: str) -> bool:
    return pattern is None or pattern.match(text) is not None


def _field_fits(name: bytes, pattern: PathTemplate, fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return True if some line of the field matches; a field that is absent does not."""
    return any(each == name and _fits(pattern, value.decode("latin-1")) for each, value in fields)


def _index_gateway(gateway: Gateway) -> _GatewayIndex:
    items = [(path, number) for number, entry in enumerate(gateway.entries) for path in _entry_paths(entry)]
    names = {each.guard for entry in gateway.entries for each in entry.guarded}
    plain = not names and not any(each.headers for entry in gateway.entries for level in entry.levels for each in level)
    simple = not names and len(gateway.entries) == 1 and not gateway.entries[0].levels
    return _GatewayIndex(gateway, PathIndex(items), frozenset(names), plain, simple)


def _entry_paths(entry: Entry) -> list[PathTemplate | None]:
    """Return the paths that the entry's first level looks at: enough to index by."""
    return [condition.path for condition in entry.levels[0]] if entry.levels else [None]


def _candidates(gateways: Iterable[Gateway]) -> Iterator[Candidate]:
    for g, gateway in enumerate(gateways):
        for e, entry in enumerate(gateway.entries):
            for r, route in enumerate(entry.routes):
                yield from _route_candidates((g, e, r), route)


def _route_candidates(place: tuple[int, int, int], route: Route) -> Iterator[Candidate]:
    polls = route.async_location is not None
    guards = route.guard_names
    if polls:  # the location of a reply answers GET, whether or not a condition says so, before anything else does
        methods = frozenset({"GET", "HEAD"})
        location = route.async_location
        yield Candidate(order=(*place, -1), template=location, methods=methods, route=route, poll=True, guards=guards)
    for number, condition in enumerate(route.conditions or (_ANY,)):
        methods = served_methods(route.capability, condition.method)
        if polls:  # a GET that is no poll would otherwise become a record
            methods -= {"GET"}
        if methods:
            order, path = (*place, number), condition.path
            yield Candidate(order=order, template=path, methods=methods, route=route, poll=False, guards=guards)
