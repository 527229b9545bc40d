"""Why a request is served by a route, and by no other: matching told in words, by the rules that match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from kafkaproxy.guards.principals import ANONYMOUS, Principals, Refusal
from kafkaproxy.routing.matching import (
    Matcher,
    RequestLine,
    _condition_matches,
    _entry_matches,
    _failing,
    _fits,
    _route_candidates,
)
from kafkaproxy.routing.table import Entry, EntryCondition, Gateway, GuardRequirement, Route

__all__ = ["EntrySteps", "Explainer", "GatewaySteps", "Step"]

_MOST_OTHERS: Final = 20


@dataclass(frozen=True, slots=True)
class Step:
    """A route, and what became of it."""

    name: str
    served: bool
    reason: str


@dataclass(slots=True)
class EntrySteps:
    """An entry, what became of it, and its routes where it was chosen."""

    name: str
    chosen: bool
    reason: str
    routes: list[Step] = field(default_factory=list)
    others: str = ""


@dataclass(slots=True)
class GatewaySteps:
    """A gateway and its entries; ``reason`` where it was not looked into."""

    name: str
    reason: str = ""
    entries: list[EntrySteps] = field(default_factory=list)


class Explainer:
    """Tells how one request was matched. ``seen``: by gateway, the principals of the client."""

    def __init__(self, matcher: Matcher, request: RequestLine, seen: Mapping[str, Principals]) -> None:
        self._matcher = matcher
        self._request = request
        self._seen = seen
        self._decided = ""

    def explain(self) -> list[GatewaySteps]:
        """Return every gateway, in order."""
        leading = {gateway.name for gateway, _found in self._matcher.split(self._matcher.find(self._request.path))}
        return [self._gateway(gateway, leads=gateway.name in leading) for gateway in self._matcher.configuration.gateways]

    def _gateway(self, gateway: Gateway, *, leads: bool) -> GatewaySteps:
        if self._decided:
            return GatewaySteps(gateway.name, _("not looked into: %(name)s has decided") % {"name": self._decided})
        if not leads:
            return GatewaySteps(gateway.name, _("none of its routes has this path"))
        steps = GatewaySteps(gateway.name)
        principals = self._seen.get(gateway.name, ANONYMOUS)
        chosen = ""
        for entry in gateway.entries:
            told = self._entry(entry, principals, chosen)
            steps.entries.append(told)
            if any(step.served for step in told.routes) or (not chosen and self._is_refused(entry, told, principals)):
                self._decided = gateway.name
            chosen = chosen or (entry.name if told.chosen else "")
        return steps

    def _is_refused(self, entry: Entry, told: EntrySteps, principals: Principals) -> bool:
        """Whether guards keep the request from routes that would serve it: no later gateway is asked then."""
        if told.chosen:
            return any(self._is_able(route) and _failing(route.guarded, principals) for route in entry.routes)
        refused = _entry_matches(entry, self._request) and _failing(entry.guarded, principals)
        return bool(refused) and any(self._candidates(route) for route in entry.routes)

    def _entry(self, entry: Entry, principals: Principals, chosen: str) -> EntrySteps:
        if chosen:
            return EntrySteps(entry.name, False, _("not tried: %(name)s was chosen") % {"name": chosen})
        if not _entry_matches(entry, self._request):
            return EntrySteps(entry.name, False, self._mismatch(entry))
        if reason := guard_reason(entry.guarded, principals):
            return EntrySteps(entry.name, False, reason)
        told = EntrySteps(entry.name, True, _("its conditions match and its guards pass"))
        told.routes = list(self._routes(entry.routes, principals))
        left_out = len(entry.routes) - len(told.routes)
        if left_out:
            others = ngettext("%(n)d other route has another path", "%(n)d other routes have other paths", left_out)
            told.others = others % {"n": left_out}
        return told

    def _mismatch(self, entry: Entry) -> str:
        """Say which part of the request does not match."""
        level = next(each for each in entry.levels if not any(_condition_matches(one, self._request) for one in each))
        parts = dict.fromkeys(part for condition in level for part in self._differing(condition))
        return _("its conditions want another %(parts)s") % {"parts": ", ".join(parts)}

    def _differing(self, condition: EntryCondition) -> Iterator[str]:
        request = self._request
        if condition.method is not None and condition.method != request.method:
            yield _("method")
        for name, pattern, text in (
            (_("scheme"), condition.scheme, request.scheme),
            (_("host and port"), condition.authority, request.authority),
            (_("path"), condition.path, request.path),
        ):
            if not _fits(pattern, text):
                yield name
        if condition.headers and not _condition_matches(EntryCondition(headers=condition.headers), request):
            yield _("field")

    def _routes(self, routes: Iterable[Route], principals: Principals) -> Iterator[Step]:
        served = ""
        elsewhere = 0
        for route in routes:
            if not self._candidates(route):
                elsewhere += 1
                if elsewhere <= _MOST_OTHERS:
                    yield Step(route.name, False, _("no condition matches the path"))
            elif served:
                yield Step(route.name, False, _("not tried: %(name)s serves") % {"name": served})
            elif not self._is_able(route):
                methods = ", ".join(sorted(frozenset().union(*self._candidates(route))))
                yield Step(route.name, False, _("for this path it serves %(methods)s") % {"methods": methods})
            elif reason := guard_reason(route.guarded, principals):
                yield Step(route.name, False, reason)
            else:
                served = route.name
                yield Step(route.name, True, _("serves the request"))

    def _candidates(self, route: Route) -> list[frozenset[str]]:
        """Return the methods of each condition whose path matches."""
        candidates = _route_candidates((0, 0, 0), route)
        return [each.methods for each in candidates if _fits(each.template, self._request.path)]

    def _is_able(self, route: Route) -> bool:
        return any(self._request.method in methods for methods in self._candidates(route))


def guard_reason(guarded: tuple[GuardRequirement, ...], principals: Principals) -> str:
    """Say which guards do not pass, and why; empty where all do."""
    failing = set(_failing(guarded, principals))
    return "; ".join(_guard_reason(each, principals) for each in guarded if each.guard in failing)


def _guard_reason(requirement: GuardRequirement, principals: Principals) -> str:
    name = {"guard": requirement.guard}
    if requirement.guard in principals:
        roles: frozenset[str] = getattr(principals[requirement.guard], "roles", frozenset())
        lacking = ", ".join(sorted(requirement.roles - roles))
        return _("guard %(guard)s: the client lacks %(roles)s") % {**name, "roles": lacking}
    match principals.refusals.get(requirement.guard, Refusal.MISSING):
        case Refusal.INVALID:
            return _("guard %(guard)s: the credential is not valid") % name
        case Refusal.FORBIDDEN:
            return _("guard %(guard)s: the CSRF token is missing") % name
        case Refusal.UNAVAILABLE:
            return _("guard %(guard)s: the credential cannot be checked at the moment") % name
        case _:
            return _("guard %(guard)s: there is no credential") % name
