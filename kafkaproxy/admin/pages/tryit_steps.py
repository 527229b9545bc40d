"""Why a request is served by a route and by no other, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from kafkaproxy.guards.principals import ANONYMOUS, Principals, Refusal
from kafkaproxy.routing.explain import EntryExplanation, GatewayExplanation, Reason, RouteExplanation, explain
from kafkaproxy.routing.matching import Matcher, Part, RequestLine
from kafkaproxy.routing.table import GuardRequirement

__all__ = ["EntrySteps", "GatewaySteps", "Step", "steps"]

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


def steps(matcher: Matcher, request: RequestLine, seen: Mapping[str, Principals]) -> list[GatewaySteps]:
    """Return every gateway, in order. ``seen``: by gateway, the principals of the client."""
    told = []
    decided = ""
    for each in explain(matcher, request, seen):
        told.append(_gateway(each, decided, seen.get(each.gateway.name, ANONYMOUS)))
        if each.verdict is Reason.TAKEN:
            decided = each.gateway.name  # the last one that was looked into
    return told


def _gateway(told: GatewayExplanation, decided: str, principals: Principals) -> GatewaySteps:
    name = told.gateway.name
    if told.verdict is Reason.NOT_TRIED:
        return GatewaySteps(name, _("not looked into: %(name)s has decided") % {"name": decided})
    if told.verdict is Reason.OTHER_PATH:
        return GatewaySteps(name, _("none of its routes has this path"))
    chosen = next((each.entry.name for each in told.entries if each.verdict is Reason.TAKEN), "")
    return GatewaySteps(name, entries=[_entry(each, chosen, principals) for each in told.entries])


def _entry(told: EntryExplanation, chosen: str, principals: Principals) -> EntrySteps:
    if told.verdict is Reason.TAKEN:
        taken = EntrySteps(told.entry.name, True, _("its conditions match and its guards pass"))
        taken.routes, taken.others = _routes(told.routes, principals)
        return taken
    if told.verdict is Reason.NOT_TRIED:
        reason = _("not tried: %(name)s was chosen") % {"name": chosen}
    elif told.verdict is Reason.REFUSED:
        reason = _guards_reason(told.guards, principals)
    else:
        reason = _("its conditions want another %(parts)s") % {"parts": ", ".join(map(_part, told.parts))}
    return EntrySteps(told.entry.name, False, reason)


def _part(part: Part) -> str:
    match part:
        case Part.METHOD:
            return _("method")
        case Part.SCHEME:
            return _("scheme")
        case Part.AUTHORITY:
            return _("host and port")
        case Part.PATH:
            return _("path")
        case Part.FIELD:
            return _("field")


def _routes(told: Iterable[RouteExplanation], principals: Principals) -> tuple[list[Step], str]:
    """Return the steps, and a line about the routes that have other paths and are too many to be named."""
    routes = list(told)
    served = next((each.route.name for each in routes if each.verdict is Reason.TAKEN), "")
    elsewhere = [each for each in routes if each.verdict is Reason.OTHER_PATH]
    left_out = {id(each) for each in elsewhere[_MOST_OTHERS:]}
    named = [
        Step(each.route.name, each.verdict is Reason.TAKEN, _route_reason(each, served, principals))
        for each in routes
        if id(each) not in left_out
    ]
    if not left_out:
        return named, ""
    others = ngettext("%(n)d other route has another path", "%(n)d other routes have other paths", len(left_out))
    return named, others % {"n": len(left_out)}


def _route_reason(told: RouteExplanation, served: str, principals: Principals) -> str:
    match told.verdict:
        case Reason.OTHER_PATH:
            return _("no condition matches the path")
        case Reason.OTHER_METHOD:
            return _("for this path it serves %(methods)s") % {"methods": ", ".join(sorted(told.methods))}
        case Reason.REFUSED:
            return _guards_reason(told.guards, principals)
        case Reason.TAKEN:
            return _("serves the request")
        case _:
            return _("not tried: %(name)s serves") % {"name": served}


def _guards_reason(unmet: Iterable[GuardRequirement], principals: Principals) -> str:
    return "; ".join(_guard_reason(each, principals) for each in unmet)


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
