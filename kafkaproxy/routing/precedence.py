"""Routes that are never reached, because a route of an earlier *gateway* takes every request that they would serve.

Gateways are tried in order, and one that serves a request or refuses it ends the search: the guards of the earlier one do not
matter. One that has an entry for a request but no route lets the search go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from django.utils.translation import gettext as _

from kafkaproxy.core.covering import Coverers, apart, covers
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.routing.issues import Issue, Severity
from kafkaproxy.routing.shadows import Alternative, Claim, Gate, claims, level_hides
from kafkaproxy.specs.types import GatewaySpec

__all__ = ["HiddenRoute", "shadowed_by_gateways"]

Levels = tuple[tuple[Alternative, ...], ...]


@dataclass(frozen=True, slots=True)
class HiddenRoute:
    """A condition that an earlier gateway hides."""

    gateway: str
    entry: str
    by: str
    """The earlier gateway."""
    issue: Issue


@dataclass(frozen=True, slots=True)
class _Reach:
    """What a condition serves behind its entry. ``rivals`` are the entries that are asked before that."""

    gateway: str
    gate: Gate
    rivals: Sequence[Gate]
    claim: Claim
    levels: Levels

    def hides(self, other: _Reach) -> bool:
        return (
            self.claim.takes(other.claim)
            and all(any(level_hides(mine, theirs) for theirs in other.levels) for mine in self.gate.levels)
            and all(_is_past(rival, other) for rival in self.rivals)
        )


def shadowed_by_gateways(gateways: Sequence[GatewaySpec]) -> list[HiddenRoute]:
    """Return each condition, of gateways in order, that an earlier gateway hides."""
    hidden: list[HiddenRoute] = []
    earlier: Coverers[_Reach] = Coverers()
    for gateway in gateways:
        own = list(_reaches(gateway))
        hidden.extend(each for reach in own for each in _hiding(reach, earlier))
        for reach in own:
            earlier.add(reach.claim.template, reach)
    return hidden


def _hiding(reach: _Reach, earlier: Coverers[_Reach]) -> Iterator[HiddenRoute]:
    by = next((each for each in earlier.find(reach.claim.template) if each.hides(reach)), None)
    if by is not None:
        yield HiddenRoute(reach.gateway, reach.gate.entry.name, by.gateway, _issue(reach.claim, by))


def _reaches(gateway: GatewaySpec) -> Iterator[_Reach]:
    rivals: list[Gate] = []
    for entry in gateway.entries:
        try:
            gate = Gate.parse(entry)
        except TemplateError:  # reported by the field's own validator; what it lets through nobody knows
            return
        before = tuple(rivals)
        for claim in (claim for route in entry.routes for claim in claims(route)):
            if levels := _narrowed(gate.levels, claim):
                yield _Reach(gateway.name, gate, before, claim, levels)
        rivals.append(gate)


def _narrowed(levels: Levels, claim: Claim) -> Levels:
    """Return what the entry matches of what the condition does; empty: nothing."""
    narrowed = tuple(
        tuple(each for alternative in level for each in _both(alternative, claim)) for level in levels or ((Alternative(),),)
    )
    return narrowed if all(narrowed) else ()


def _both(alternative: Alternative, claim: Claim) -> Iterator[Alternative]:
    """Yield what matches both, one for each method; of two paths that cross, the entry's stands for both."""
    path = claim.template if covers(alternative.path, claim.template) else alternative.path
    if not apart(alternative.path, claim.template):
        for method in sorted(claim.methods):
            if alternative.method in (None, method):
                yield replace(alternative, path=path, method=method)


def _is_past(rival: Gate, reach: _Reach) -> bool:
    """Whether the rival takes nothing of what a condition would serve: some level of it never matches."""
    return any(
        all(_are_apart(mine, theirs) for mine in level for theirs in other) for level in rival.levels for other in reach.levels
    )


def _are_apart(one: Alternative, other: Alternative) -> bool:
    return (
        (None not in (one.method, other.method) and one.method != other.method)
        or apart(one.path, other.path)
        or apart(one.scheme, other.scheme)
        or apart(one.authority, other.authority)
    )


def _issue(claim: Claim, by: _Reach) -> Issue:
    message = _(
        "“%(condition)s” is never reached: the gateway “%(gateway)s” comes first, and its route “%(route)s” takes “%(wider)s”."
    )
    names = {"condition": claim.condition, "gateway": by.gateway, "route": by.claim.route.name, "wider": by.claim.condition}
    return Issue(
        field=claim.field,
        index=claim.index,
        part="path" if claim.index is not None else "",
        message=message % names,
        code="shadowed",
        severity=Severity.WARNING,
        subject=claim.route.name,
    )
