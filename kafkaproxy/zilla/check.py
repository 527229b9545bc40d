"""The rules that the models have, applied to a plan: each failure at the line it comes from, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from kafkaproxy.models import (
    AccessControl,
    AsyncField,
    Cluster,
    Condition,
    Entry,
    EntryCondition,
    Filter,
    Gateway,
    Guard,
    Override,
    Route,
    Topic,
)
from kafkaproxy.specs.types import ConditionSpec, EntryConditionSpec, EntrySpec, FilterSpec, RouteSpec
from kafkaproxy.routing.issues import Issue, Severity
from kafkaproxy.routing.rules import shadowed_entries, shadowed_routes, validate_route
from kafkaproxy.specs.places import Place
from kafkaproxy.zilla.fallthrough import warn_of_fallthrough
from kafkaproxy.zilla.plan import EntryPlan, GatewayPlan, Plan, RoutePlan
from kafkaproxy.zilla.report import Report

__all__ = ["check_plan"]


def check_plan(plan: Plan, report: Report) -> None:
    """Refuse what the models would refuse, and warn of rules that are never reached."""
    for cluster in plan.clusters:
        if not cluster.existing:
            fields = {name: getattr(cluster, name) for name in ("name", "bootstrap_servers", "sasl_username", "sasl_password")}
            _validate(Cluster(**fields), cluster.place, report)
    for topic in plan.topics:
        _validate(Topic(name=topic.name), topic.place, report)
    guards = {guard.name for guard in plan.guards}
    for guard in plan.guards:
        _validate(Guard(name=guard.name, kind=guard.kind, options=dict(guard.options)), guard.place, report)
    for gateway in plan.gateways:
        _check_gateway(gateway, guards, report)


def _check_gateway(gateway: GatewayPlan, guards: set[str], report: Report) -> None:
    headers = {name: getattr(gateway, name) for name in ("idempotency_header", "reply_to_header", "correlation_header")}
    maps = {name: dict(getattr(gateway, name)) for name in ("credentials_cookies", "credentials_headers", "credentials_query")}
    _validate(Gateway(name=gateway.name, **headers, **maps), gateway.place, report)
    _validate(AccessControl(**_as_lists(asdict(gateway.access_control))), gateway.place, report)
    for entry in gateway.entries:
        _check_entry(entry, guards, report)
    _add_issues(shadowed_entries([_entry_text(entry) for entry in gateway.entries]), _place_in(gateway.entries), report)
    warn_of_fallthrough(gateway, report)


def _as_lists(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _check_entry(entry: EntryPlan, guards: set[str], report: Report) -> None:
    _validate(Entry(name=entry.name), entry.place, report)
    for row in entry.conditions:
        fields = {name: getattr(row, name) for name in ("level", "scheme", "authority", "path", "method")}
        _validate(EntryCondition(**fields, headers=dict(row.headers)), entry.place, report)
    texts = [_route_text(route) for route in entry.routes]
    for route, text in zip(entry.routes, texts, strict=True):
        _check_route(route, report)
        _add_issues(validate_route(text, guards=guards), _place_of(route), report)
    routes = {route.name: route for route in entry.routes}
    _add_issues(shadowed_routes(texts), lambda issue: routes[issue.subject].at(issue.field), report)


def _check_route(route: RoutePlan, report: Report) -> None:
    names = ("name", "capability", "topic", "key", "acks", "reply_to", "correlation_header", "merge", "event_id")
    _validate(Route(**{name: getattr(route, name) for name in names}), route.place, report, route.places)
    for condition in route.conditions:
        _validate(Condition(method=condition.method, path=condition.path), route.at("conditions"), report)
    for name, value in route.overrides:
        _validate(Override(name=name, value=value), route.at("overrides"), report)
    for name, value in route.async_fields:
        _validate(AsyncField(name=name, value=value), route.at("async_fields"), report)
    for each in route.filters:
        _validate(Filter(key=each.key, headers=dict(each.headers)), route.at("filters"), report)


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


def _place_of(route: RoutePlan) -> Callable[[Issue], Place]:
    return lambda issue: route.at(issue.field)


def _place_in(entries: Iterable[EntryPlan]) -> Callable[[Issue], Place]:
    places = {entry.name: entry.place for entry in entries}
    return lambda issue: places[issue.subject]


def _route_text(route: RoutePlan) -> RouteSpec:
    return RouteSpec(
        name=route.name,
        capability=route.capability,
        topic=route.topic,
        conditions=[ConditionSpec(each.method, each.path) for each in route.conditions],
        key=route.key,
        reply_to=route.reply_to,
        overrides=route.overrides,
        filters=[FilterSpec(each.key, dict(each.headers)) for each in route.filters],
        async_fields=route.async_fields,
        guarded=route.guarded,
    )


def _entry_text(entry: EntryPlan) -> EntrySpec:
    return EntrySpec(name=entry.name, conditions=list(_condition_texts(entry)), guarded=entry.guarded)


def _condition_texts(entry: EntryPlan) -> Iterator[EntryConditionSpec]:
    for row in entry.conditions:
        fields: dict[str, Any] = {name: getattr(row, name) for name in ("level", "scheme", "authority", "path", "method")}
        yield EntryConditionSpec(**fields, headers=dict(row.headers))
