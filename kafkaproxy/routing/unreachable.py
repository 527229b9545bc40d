"""Rules that are never reached, because an earlier one takes every request that they would serve.

Only a warning: nothing is wrong with the rule itself. A rule counts as hidden by one earlier rule whose guards let in every
client that its own would let in. Gateways are tried in order, too, and one that serves a request or refuses it ends the search:
the guards of the earlier one do not matter then. A gateway that has an entry for a request but no route does not end it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from django.utils.translation import gettext as _

from kafkaproxy.core.capabilities import Capability, served_methods
from kafkaproxy.core.covering import CoverIndex, are_disjoint, covers
from kafkaproxy.core.env import mask_env
from kafkaproxy.core.paths import PathTemplate, TemplateError
from kafkaproxy.routing.polling import poll_template
from kafkaproxy.routing.rules import Issue, Severity
from kafkaproxy.specs.types import ConditionSpec, EntryConditionSpec, EntrySpec, GatewaySpec, RouteSpec

__all__ = ["HiddenRoute", "shadowed_by_gateways", "shadowed_entries", "shadowed_routes"]

Roles = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True)
class Claim:
    """What one condition of a route serves."""

    route: RouteSpec
    field: str
    index: int | None
    condition: ConditionSpec
    template: PathTemplate | None
    methods: frozenset[str]

    def hides(self, other: Claim) -> bool:
        """Return True if it serves all that ``other`` does, to every client that ``other`` would serve."""
        return _lets_in(self.route.guarded, other.route.guarded) and self.takes(other)

    def takes(self, other: Claim) -> bool:
        """Return True if its path and methods are those of ``other``, or more."""
        return self.methods >= other.methods and covers(self.template, other.template)


def shadowed_routes(routes: Sequence[RouteSpec]) -> list[Issue]:
    """Return a warning for each condition of an entry's routes, in order, that an earlier route hides.

    ``subject`` is the route's name. Leave disabled routes out.
    """
    issues: list[Issue] = []
    earlier: CoverIndex[Claim] = CoverIndex()
    for route in routes:
        own = list(claims(route))
        issues.extend(_hidden_condition(claim, each) for claim in own for each in _hiding_claim(claim, earlier))
        for claim in own:
            earlier.add(claim.template, claim)
    return issues


def _hiding_claim(claim: Claim, earlier: CoverIndex[Claim]) -> Iterator[Claim]:
    """Return the first claim that hides another one, if there is one."""
    return islice((each for each in earlier.find(claim.template) if each.hides(claim)), 1)


def shadowed_entries(entries: Sequence[EntrySpec]) -> list[Issue]:
    """Return a warning for each entry of a gateway, in order, that an earlier one hides. Leave disabled entries out."""
    issues: list[Issue] = []
    earlier: CoverIndex[Gate] = CoverIndex()
    for entry in entries:
        try:
            gate = Gate.parse(entry)
        except TemplateError:  # reported by the field's own validator
            continue
        candidates = (each for level in gate.levels or ((_ANY,),) for each in earlier.find(level[0].path))
        if hiding := next((each for each in candidates if each.hides(gate)), None):
            issues.append(_hidden_entry(gate, hiding))
        for condition in gate.levels[0] if gate.levels else (_ANY,):
            earlier.add(condition.path, gate)
    return issues


def _lets_in(wide: Roles, narrow: Roles) -> bool:
    """Return True if every client that passes ``narrow`` passes ``wide``."""
    return all(guard in narrow and set(narrow[guard]).issuperset(roles) for guard, roles in wide.items())


def claims(route: RouteSpec) -> Iterator[Claim]:
    """Yield what a route serves, in order."""
    try:
        capability = Capability(route.capability)
    except ValueError:  # reported by the field's own validator
        return
    try:
        poll = poll_template(route)
    except TemplateError:
        poll = None
    if poll is not None:
        text = ConditionSpec("GET", poll.text)
        yield Claim(route, "async_fields", None, text, poll, frozenset({"GET"}))
    for index, text in enumerate(route.conditions or [ConditionSpec()]):
        methods = served_methods(capability, _any_if_blank(text.method))
        if poll is not None:
            methods -= {"GET"}
        try:
            template = PathTemplate.parse(mask_env(text.path)) if text.path else None
        except TemplateError:
            continue
        if methods:
            yield Claim(route, "conditions", index if route.conditions else None, text, template, methods)


def _any_if_blank(method: str) -> str | None:
    return None if method in ("", "*") else method


def _hidden_condition(claim: Claim, hiding: Claim) -> Issue:
    message = _("“%(condition)s” is never reached: the earlier route “%(route)s” serves “%(wider)s” to everyone.")
    if claim.route.guarded:
        message = _("“%(condition)s” is never reached: the earlier route “%(route)s” serves “%(wider)s” to the same.")
    return Issue(
        field=claim.field,
        index=claim.index,
        part="path" if claim.index is not None else "",
        message=message % {"condition": claim.condition, "route": hiding.route.name, "wider": hiding.condition},
        code="shadowed",
        severity=Severity.WARNING,
        subject=claim.route.name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A condition of an entry, parsed; None matches anything."""

    scheme: PathTemplate | None = None
    authority: PathTemplate | None = None
    path: PathTemplate | None = None
    method: str | None = None
    headers: Mapping[str, PathTemplate] = field(default_factory=dict)

    def hides(self, other: Alternative) -> bool:
        """Return True if it matches all that ``other`` does."""
        return (
            self.method in (None, other.method)
            and covers(self.path, other.path)
            and covers(self.scheme, other.scheme)
            and covers(self.authority, other.authority)
            and all(name in other.headers and covers(each, other.headers[name]) for name, each in self.headers.items())
        )


_ANY = Alternative()


@dataclass(frozen=True, slots=True)
class Gate:
    """What an entry lets through: every level, by any of its alternatives."""

    entry: EntrySpec
    levels: tuple[tuple[Alternative, ...], ...]

    @classmethod
    def parse(cls, text: EntrySpec) -> Gate:
        """Parse an entry; raise ``TemplateError`` for a pattern that is none."""
        levels: dict[int, list[Alternative]] = {}
        for condition in text.conditions:
            levels.setdefault(condition.level, []).append(_parse_alternative(condition))
        return cls(text, tuple(tuple(each) for each in levels.values()))

    def hides(self, other: Gate) -> bool:
        """Return True if each level lets through all that some level of ``other`` does."""
        return _lets_in(self.entry.guarded, other.entry.guarded) and all(
            any(level_hides(mine, theirs) for theirs in other.levels or ((_ANY,),)) for mine in self.levels
        )


def level_hides(mine: Sequence[Alternative], theirs: Sequence[Alternative]) -> bool:
    """Return True if every alternative of ``theirs`` is matched by one of ``mine``."""
    return all(any(wide.hides(narrow) for wide in mine) for narrow in theirs)


def _parse_alternative(text: EntryConditionSpec) -> Alternative:
    return Alternative(
        scheme=_pattern(text.scheme),
        authority=_pattern(text.authority),
        path=_pattern(text.path),
        method=_any_if_blank(text.method),
        headers={name.lower(): PathTemplate.parse(mask_env(value)) for name, value in text.headers.items()},
    )


def _pattern(text: str) -> PathTemplate | None:
    return PathTemplate.parse(mask_env(text)) if text else None


def _hidden_entry(gate: Gate, hiding: Gate) -> Issue:
    message = _("This entry is never reached: the earlier entry “%(entry)s” takes every request that it would take.")
    return Issue(
        field="position",
        message=message % {"entry": hiding.entry.name},
        code="shadowed",
        severity=Severity.WARNING,
        subject=gate.entry.name,
    )


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
    earlier: CoverIndex[_Reach] = CoverIndex()
    for gateway in gateways:
        own = list(_reaches(gateway))
        hidden.extend(each for reach in own for each in _hiding_reach(reach, earlier))
        for reach in own:
            earlier.add(reach.claim.template, reach)
    return hidden


def _hiding_reach(reach: _Reach, earlier: CoverIndex[_Reach]) -> Iterator[HiddenRoute]:
    by = next((each for each in earlier.find(reach.claim.template) if each.hides(reach)), None)
    if by is not None:
        yield HiddenRoute(reach.gateway, reach.gate.entry.name, by.gateway, _issue(reach.claim, by))


def _reaches(gateway: GatewaySpec) -> Iterator[_Reach]:
    rivals: list[Gate] = []
    for entry in gateway.entries:
        try:
            gate = Gate.parse(entry)
        except TemplateError:  # reported by the field's own validator; what it lets through is not known
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
    if not are_disjoint(alternative.path, claim.template):
        for method in sorted(claim.methods):
            if alternative.method in (None, method):
                yield replace(alternative, path=path, method=method)


def _is_past(rival: Gate, reach: _Reach) -> bool:
    """Return True if the rival takes nothing of what a condition would serve: some level of it never matches."""
    return any(
        all(_are_apart(mine, theirs) for mine in level for theirs in other) for level in rival.levels for other in reach.levels
    )


def _are_apart(one: Alternative, other: Alternative) -> bool:
    return (
        (None not in (one.method, other.method) and one.method != other.method)
        or are_disjoint(one.path, other.path)
        or are_disjoint(one.scheme, other.scheme)
        or are_disjoint(one.authority, other.authority)
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
