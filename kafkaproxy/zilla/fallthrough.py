"""Requests that a guard turns away go on to the next rule: where that one lets in more people, the importer says so.

The reference works the same way. Only a warning, then, but one that nobody should find out by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Final

from django.utils.translation import gettext as _

from kafkaproxy.core.capabilities import Capability, served_methods
from kafkaproxy.core.env import mask_env
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.specs.types import ConditionSpec, EntrySpec, GatewaySpec, RouteSpec
from kafkaproxy.zilla.report import Report

__all__ = ["may_overlap", "warn_of_fallthrough"]

_MOST: Final = 500
"""Rules of one parent that are compared pair by pair; more are not, for it takes too long."""

Roles = Mapping[str, tuple[str, ...]]


def warn_of_fallthrough(gateway: GatewaySpec, report: Report) -> None:
    """Warn of each rule that serves to more people what an earlier one guards."""
    for first, second in combinations(gateway.entries[:_MOST], 2):
        if second.routes and _is_laxer(first.guarded, second.guarded) and _entries_overlap(first, second):
            message = _("Who is turned away by the guards of the entry %(first)r is served by %(second)r.") % {
                "first": first.name,
                "second": second.name,
            }
            report.warn(second.place, message, _("Guard both, or make them match different requests."))
    for entry in gateway.entries:
        for one, other in combinations(entry.routes[:_MOST], 2):
            if _is_laxer(one.guarded, other.guarded) and _routes_overlap(one, other):
                message = _("Who is turned away by the guards of the route %(one)r is served by %(other)r.") % {
                    "one": one.name,
                    "other": other.name,
                }
                report.warn(other.place, message, _("Guard both, or make them match different requests."))


def _is_laxer(first: Roles, second: Roles) -> bool:
    """Whether the second lets in somebody whom the first does not."""
    return any(guard not in second or not set(roles) <= set(second[guard]) for guard, roles in first.items())


def _entries_overlap(first: EntrySpec, second: EntrySpec) -> bool:
    return any(may_overlap(one, other) for one in _outer_paths(first) for other in _outer_paths(second))


def _outer_paths(entry: EntrySpec) -> Iterable[str]:
    return [row.path for row in entry.conditions if row.level == 0] or [""]


def _routes_overlap(first: RouteSpec, second: RouteSpec) -> bool:
    return any(
        one_methods & other_methods and may_overlap(one_path, other_path)
        for one_methods, one_path in _served(first)
        for other_methods, other_path in _served(second)
    )


def _served(route: RouteSpec) -> Iterator[tuple[frozenset[str], str]]:
    for each in route.conditions or (ConditionSpec(),):
        yield served_methods(Capability(route.capability), each.method or None), each.path


def may_overlap(first: str, second: str) -> bool:
    """Whether some path may match both patterns. An empty one matches every path. False is always right."""
    if not first or not second:
        return True
    one, other = PathTemplate.parse(mask_env(first)), PathTemplate.parse(mask_env(second))
    for literal, pattern in ((one, other), (other, one)):
        if literal.is_literal:
            return pattern.match("".join(str(part) for part in literal.parts)) is not None
    (head, tail), (other_head, other_tail) = _ends(one), _ends(other)
    begins = head.startswith(other_head) or other_head.startswith(head)
    return begins and (tail.endswith(other_tail) or other_tail.endswith(tail))


def _ends(template: PathTemplate) -> tuple[str, str]:
    first, last = template.parts[0], template.parts[-1]
    return first if isinstance(first, str) else "", last if isinstance(last, str) else ""
