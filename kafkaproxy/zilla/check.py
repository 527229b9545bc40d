"""The rules that the models have, applied to a plan: each failure at the line it comes from, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from django.core.exceptions import ValidationError
from django.db import models

from kafkaproxy.models import AccessControl
from kafkaproxy.routing.issues import Issue, Severity
from kafkaproxy.routing.rules import shadowed_entries, shadowed_routes, validate_route
from kafkaproxy.specs.places import Place
from kafkaproxy.specs.to_rows import child_rows, unsaved_row
from kafkaproxy.specs.types import EntrySpec, GatewaySpec, RouteSpec
from kafkaproxy.specs.values import plain
from kafkaproxy.zilla.fallthrough import warn_of_fallthrough
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import Report

__all__ = ["check_plan"]


def check_plan(plan: Plan, report: Report) -> None:
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


def _check_gateway(gateway: GatewaySpec, guards: set[str], report: Report) -> None:
    _validate(unsaved_row("gateway", gateway), gateway.place, report)
    if gateway.access_control is not None:
        _validate(AccessControl(**plain(gateway.access_control)), gateway.place, report)
    for entry in gateway.entries:
        _check_entry(entry, guards, report)
    _add_issues(shadowed_entries(gateway.entries), _place_in(gateway.entries), report)
    warn_of_fallthrough(gateway, report)


def _check_entry(entry: EntrySpec, guards: set[str], report: Report) -> None:
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


def _validate(row: models.Model, place: Place, report: Report, places: Mapping[str, Place] | None = None) -> None:
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


def _add_issues(issues: Iterable[Issue], place: Callable[[Issue], Place], report: Report) -> None:
    for issue in issues:
        add = report.refuse if issue.severity is Severity.ERROR else report.warn
        subject = f"{issue.subject}: " if issue.subject else ""
        add(place(issue), f"{subject}{issue.message}")


def _place_of(route: RouteSpec) -> Callable[[Issue], Place]:
    return lambda issue: route.at(issue.field)


def _place_in(entries: Iterable[EntrySpec]) -> Callable[[Issue], Place]:
    places = {entry.name: entry.place for entry in entries}
    return lambda issue: places[issue.subject]
