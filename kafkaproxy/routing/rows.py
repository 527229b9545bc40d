"""The enabled configuration as it stands in the database: read with one query a model, however many rows there are.

Where there may be thousands, rows are read as named tuples: they have the fields of the model, are read in half the time, and
compare by what they hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from django.db.models import Model, QuerySet

from kafkaproxy import models
from kafkaproxy.routing.texts import ConditionText, EntryConditionText, EntryText, FilterText, RouteText

__all__ = ["Resolve", "Rows", "as_written", "entry_text", "read_rows", "route_text"]

T = TypeVar("T", bound=Model)
Children = Mapping[int, list[T]]
"""Rows by the id of their parent, in order."""

Resolve = Callable[[str], str]
"""What fills ``${{env.NAME}}`` in."""

_IN_GATEWAY: Final[dict[str, Any]] = {"enabled": True, "gateway__enabled": True}
_IN_ENTRY: Final[dict[str, Any]] = {f"entry__{name}": value for name, value in _IN_GATEWAY.items()}
_IN_ROUTE: Final[dict[str, Any]] = {f"route__{name}": value for name, value in {"enabled": True, **_IN_ENTRY}.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Everything that is enabled, in order."""

    guards: Mapping[int, models.Guard]
    clusters: Mapping[int, models.Cluster]
    topics: list[models.Topic]
    gateways: list[models.Gateway]
    access_controls: Children[models.AccessControl]
    entries: Children[models.Entry]
    entry_conditions: Children[models.EntryCondition]
    entry_guards: Children[models.EntryGuard]
    routes: Children[models.Route]
    conditions: Children[models.Condition]
    overrides: Children[models.Override]
    filters: Children[models.Filter]
    async_fields: Children[models.AsyncField]
    route_guards: Children[models.RouteGuard]

    def of_route(self, route: models.Route) -> tuple[object, ...]:
        """Return the route and its own rows, to compare."""
        children = (self.conditions, self.overrides, self.filters, self.async_fields, self.route_guards)
        return (route, *(each.get(route.id) for each in children))


def read_rows() -> Rows:
    """Read it. Each query sees the database at another moment: compare the version before and after."""
    in_order = ("position", "pk")
    return Rows(
        guards=models.Guard.objects.in_bulk(),
        clusters=models.Cluster.objects.in_bulk(),
        topics=list(models.Topic.objects.order_by("pk")),
        gateways=list(models.Gateway.objects.filter(enabled=True)),
        access_controls=_by("gateway_id", models.AccessControl.objects.filter(gateway__enabled=True)),
        entries=_by("gateway_id", models.Entry.objects.filter(**_IN_GATEWAY)),
        entry_conditions=_by("entry_id", models.EntryCondition.objects.filter(**_IN_ENTRY)),
        entry_guards=_by("entry_id", models.EntryGuard.objects.filter(**_IN_ENTRY).order_by("pk")),
        routes=_by("entry_id", _tuples(models.Route.objects.filter(enabled=True, **_IN_ENTRY).order_by(*in_order))),
        conditions=_by("route_id", _tuples(models.Condition.objects.filter(**_IN_ROUTE).order_by(*in_order))),
        overrides=_by("route_id", _tuples(models.Override.objects.filter(**_IN_ROUTE).order_by(*in_order))),
        filters=_by("route_id", _tuples(models.Filter.objects.filter(**_IN_ROUTE).order_by(*in_order))),
        async_fields=_by("route_id", _tuples(models.AsyncField.objects.filter(**_IN_ROUTE).order_by(*in_order))),
        route_guards=_by("route_id", _tuples(models.RouteGuard.objects.filter(**_IN_ROUTE).order_by("pk"))),
    )


def as_written(text: str) -> str:
    """Leave ``${{env.NAME}}`` alone."""
    return text


def route_text(rows: Rows, route: models.Route, resolve: Resolve = as_written) -> RouteText:
    """Return the route in the words of the rules."""
    pk = route.id
    return RouteText(
        name=route.name,
        capability=route.capability,
        topic=resolve(route.topic),
        key=None if route.key is None else resolve(route.key),
        reply_to=resolve(route.reply_to),
        conditions=[ConditionText(row.method, resolve(row.path)) for row in rows.conditions.get(pk, ())],
        overrides=[(row.name, resolve(row.value)) for row in rows.overrides.get(pk, ())],
        filters=[_filter_text(row, resolve) for row in rows.filters.get(pk, ())],
        async_fields=[(row.name, resolve(row.value)) for row in rows.async_fields.get(pk, ())],
        guarded=_guarded(rows, rows.route_guards.get(pk, ()), resolve),
    )


def entry_text(rows: Rows, entry: models.Entry, resolve: Resolve = as_written) -> EntryText:
    """Return the entry in the words of the rules."""
    conditions = [
        EntryConditionText(
            level=row.level,
            scheme=resolve(row.scheme),
            authority=resolve(row.authority),
            path=resolve(row.path),
            method=row.method,
            headers={name: resolve(value) for name, value in row.headers.items()},
        )
        for row in rows.entry_conditions.get(entry.pk, ())
    ]
    guarded = _guarded(rows, rows.entry_guards.get(entry.pk, ()), resolve)
    return EntryText(name=entry.name, conditions=conditions, guarded=guarded)


def _filter_text(row: models.Filter, resolve: Resolve) -> FilterText:
    headers = {name: resolve(value) for name, value in row.headers.items()}
    return FilterText(None if row.key is None else resolve(row.key), headers)


def _guarded(
    rows: Rows, required: Iterable[models.EntryGuard | models.RouteGuard], resolve: Resolve
) -> dict[str, Collection[str]]:
    return {rows.guards[each.guard_id].name: [resolve(role) for role in each.roles] for each in required}


def _tuples(rows: QuerySet[T]) -> Iterable[T]:
    return cast("Iterable[T]", rows.values_list(named=True))


def _by(parent: str, found: Iterable[T]) -> Children[T]:
    children: defaultdict[int, list[T]] = defaultdict(list)
    for row in found:
        children[getattr(row, parent)].append(row)
    return dict(children)
