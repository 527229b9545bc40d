"""Rules that are never reached, because an earlier one takes every request that they would serve.

Only a warning: nothing is wrong with the rule itself. A rule counts as hidden by one earlier rule whose guards let in everyone
whom its own would let in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from django.utils.translation import gettext as _

from kafkaproxy.core.capabilities import Capability, served_methods
from kafkaproxy.core.covering import Coverers, covers
from kafkaproxy.core.env import mask_env
from kafkaproxy.core.paths import PathTemplate, TemplateError
from kafkaproxy.routing.issues import Issue, Severity
from kafkaproxy.routing.polling import poll_template
from kafkaproxy.specs.types import ConditionSpec, EntryConditionSpec, EntrySpec, RouteSpec

__all__ = ["Alternative", "Claim", "Gate", "claims", "level_hides", "shadowed_entries", "shadowed_routes"]

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
        """Whether it serves all that ``other`` does, to whoever that is served."""
        return _lets_in(self.route.guarded, other.route.guarded) and self.takes(other)

    def takes(self, other: Claim) -> bool:
        """Whether its path and methods are those of ``other``, or more."""
        return self.methods >= other.methods and covers(self.template, other.template)


def shadowed_routes(routes: Sequence[RouteSpec]) -> list[Issue]:
    """Return a warning for each condition of an entry's routes, in order, that an earlier route hides.

    ``subject`` is the route's name. Leave disabled routes out.
    """
    issues: list[Issue] = []
    earlier: Coverers[Claim] = Coverers()
    for route in routes:
        own = list(claims(route))
        issues.extend(_hidden_condition(claim, each) for claim in own for each in _hiding(claim, earlier))
        for claim in own:
            earlier.add(claim.template, claim)
    return issues


def _hiding(claim: Claim, earlier: Coverers[Claim]) -> Iterator[Claim]:
    """Return the first claim that hides another one, if there is one."""
    return islice((each for each in earlier.find(claim.template) if each.hides(claim)), 1)


def shadowed_entries(entries: Sequence[EntrySpec]) -> list[Issue]:
    """Return a warning for each entry of a gateway, in order, that an earlier one hides. Leave disabled entries out."""
    issues: list[Issue] = []
    earlier: Coverers[Gate] = Coverers()
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
    """Whether everyone who passes ``narrow`` passes ``wide``."""
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
        """Whether it matches all that ``other`` does."""
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
        """Whether each level lets through all that some level of ``other`` does."""
        return _lets_in(self.entry.guarded, other.entry.guarded) and all(
            any(level_hides(mine, theirs) for theirs in other.levels or ((_ANY,),)) for mine in self.levels
        )


def level_hides(mine: Sequence[Alternative], theirs: Sequence[Alternative]) -> bool:
    """Whether every alternative of ``theirs`` is matched by one of ``mine``."""
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
