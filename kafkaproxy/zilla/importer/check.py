"""The rules that the models have, applied to a plan: each failure at the line it comes from, before anything is written.

It warns of rules that are never reached, and of rules that serve to more clients what an earlier rule guards: a request that
a guard refuses goes on to the next rule, as in the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from typing import Final

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _

from kafkaproxy.core.capabilities import Capability, served_methods
from kafkaproxy.core.covering import may_overlap
from kafkaproxy.routing.rules import Issue, Severity, validate_route
from kafkaproxy.routing.unreachable import shadowed_entries, shadowed_routes
from kafkaproxy.specs.to_rows import child_rows, unsaved_row
from kafkaproxy.specs.types import ConditionSpec, EntrySpec, FilePlace, GatewaySpec, RouteSpec
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import ImportReport

__all__ = ["check_plan", "warn_of_fallthrough"]


def check_plan(plan: Plan, report: ImportReport) -> None:
    """Refuse what the models would refuse, and warn of rules that are never reached."""
    for cluster in plan.clusters:
        if not cluster.existing:
            _validate(unsaved_row("cluster", cluster), cluster.place, report)
    for topic in plan.topics:
        _validate(unsaved_row("topic", topic), topic.place, report)
    for guard in plan.guards:
        _validate(unsaved_row("guard", guard), guard.place, report)
    guards = {guard.name for guard in plan.guards}
    for gateway in plan.gateways:
        _check_gateway(gateway, guards, report)


def _check_gateway(gateway: GatewaySpec, guards: set[str], report: ImportReport) -> None:
    _validate(unsaved_row("gateway", gateway), gateway.place, report)
    if gateway.access_control is not None:
        _validate(unsaved_row("accesscontrol", gateway.access_control), gateway.place, report)
    for entry in gateway.entries:
        _check_entry(entry, guards, report)
    _add_issues(shadowed_entries(gateway.entries), _place_in(gateway.entries), report)
    warn_of_fallthrough(gateway, report)


def _check_entry(entry: EntrySpec, guards: set[str], report: ImportReport) -> None:
    _validate(unsaved_row("entry", entry), entry.place, report)
    for _name, row in child_rows("entry", entry):
        _validate(row, entry.place, report)
    for route in entry.routes:
        _validate(unsaved_row("route", route), route.place, report, route.places)
        for name, row in child_rows("route", route):
            _validate(row, route.at(name), report)
        _add_issues(validate_route(route, guards=guards), _place_of(route), report)
    routes = {route.name: route for route in entry.routes}
    _add_issues(shadowed_routes(entry.routes), lambda issue: routes[issue.subject].at(issue.field), report)


def _validate(row: models.Model, place: FilePlace, report: ImportReport, places: Mapping[str, FilePlace] | None = None) -> None:
    """Run the validators of a row's own fields, without asking the database."""
    meta = row._meta  # noqa: SLF001  # documented: docs.djangoproject.com/en/stable/ref/models/meta/
    relations = [field.name for field in meta.fields if field.is_relation]
    try:
        row.clean_fields(exclude=relations)
        row.clean()
    except ValidationError as error:
        for field, messages in _messages(error):
            for message in messages:
                what = f"{meta.verbose_name} {field}".strip()
                report.refuse((places or {}).get(field, place), f"{what}: {message}")


def _messages(error: ValidationError) -> Iterable[tuple[str, list[str]]]:
    return error.message_dict.items() if hasattr(error, "error_dict") else [("", error.messages)]


def _add_issues(issues: Iterable[Issue], place: Callable[[Issue], FilePlace], report: ImportReport) -> None:
    for issue in issues:
        add = report.refuse if issue.severity is Severity.ERROR else report.warn
        subject = f"{issue.subject}: " if issue.subject else ""
        add(place(issue), f"{subject}{issue.message}")


def _place_of(route: RouteSpec) -> Callable[[Issue], FilePlace]:
    return lambda issue: route.at(issue.field)


def _place_in(entries: Iterable[EntrySpec]) -> Callable[[Issue], FilePlace]:
    places = {entry.name: entry.place for entry in entries}
    return lambda issue: places[issue.subject]


_MOST: Final = 500
"""Rules of one parent that are compared pair by pair; more are not, for it takes too long."""

Roles = Mapping[str, tuple[str, ...]]


def warn_of_fallthrough(gateway: GatewaySpec, report: ImportReport) -> None:
    """Warn of each rule that serves to more clients what an earlier rule guards."""
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
    """Return True if the second lets in clients that the first refuses."""
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
