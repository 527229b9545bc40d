"""From the rows of the models to specs: the only place that knows both, with ``to_rows``.

Whole configurations are read with one query a model, however many rows there are. Where there may be thousands, rows are read
as named tuples: they have the fields of the model, and are read in half the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

from django.db.models import Model, QuerySet

from kafkaproxy import models
from kafkaproxy.specs.types import (
    AccessControlSpec,
    ClusterSpec,
    ConditionSpec,
    ConfigurationSpec,
    EntryConditionSpec,
    EntrySpec,
    FieldSpec,
    FilterSpec,
    GatewaySpec,
    Guarded,
    GuardSpec,
    RouteSpec,
    TopicSpec,
)
from kafkaproxy.specs.values import column_names

__all__ = [
    "ENTRY_ROWS",
    "ROUTE_ROWS",
    "Children",
    "Rows",
    "cluster_spec",
    "configuration_spec",
    "entry_spec",
    "read_rows",
    "route_spec",
]

T = TypeVar("T", bound=Model)

ByParent = Mapping[int, list[T]]
"""Rows by the id of their parent, in order."""

Children = Mapping[str, Iterable[Any]]
"""The rows of one parent by their related name, in order."""

ENTRY_ROWS: Final[Mapping[str, type[Any]]] = {"conditions": EntryConditionSpec}
"""The rows of an entry by related name, and what each is read into."""
ROUTE_ROWS: Final[Mapping[str, type[Any]]] = {
    "conditions": ConditionSpec,
    "overrides": FieldSpec,
    "async_fields": FieldSpec,
    "filters": FilterSpec,
}
"""The rows of a route by related name, and what each is read into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of a configuration, in order."""

    guards: Mapping[int, models.Guard]
    clusters: Mapping[int, models.Cluster]
    topics: list[models.Topic]
    gateways: list[models.Gateway]
    access_controls: ByParent[models.AccessControl]
    entries: ByParent[models.Entry]
    entry_conditions: ByParent[models.EntryCondition]
    entry_guards: ByParent[models.EntryGuard]
    routes: ByParent[models.Route]
    conditions: ByParent[models.Condition]
    overrides: ByParent[models.Override]
    filters: ByParent[models.Filter]
    async_fields: ByParent[models.AsyncField]
    route_guards: ByParent[models.RouteGuard]


def read_rows(gateways: Collection[str] | None = None, *, enabled: bool = True) -> Rows:
    """Read the rows of these gateways, or of all that are enabled; all guards, clusters and topics with them.

    ``enabled`` leaves out entries and routes that are not. Each query sees the database at another moment: compare the version
    before and after, and only then look at the rows together.
    """
    switched = {"enabled": True} if enabled else {}
    chosen: dict[str, Any] = {"enabled": True} if gateways is None else {"name__in": list(gateways)}
    of_gateway = _behind("gateway", chosen)
    of_entry = {**switched, **of_gateway}
    in_entry = _behind("entry", of_entry)
    of_route = {**switched, **in_entry}
    in_route = _behind("route", of_route)
    in_order = ("position", "pk")
    return Rows(
        guards=models.Guard.objects.in_bulk(),
        clusters=models.Cluster.objects.in_bulk(),
        topics=list(models.Topic.objects.order_by("pk")),
        gateways=list(models.Gateway.objects.filter(**chosen)),
        access_controls=_by("gateway_id", models.AccessControl.objects.filter(**of_gateway)),
        entries=_by("gateway_id", models.Entry.objects.filter(**of_entry)),
        entry_conditions=_by("entry_id", models.EntryCondition.objects.filter(**in_entry)),
        entry_guards=_by("entry_id", models.EntryGuard.objects.filter(**in_entry).order_by("pk")),
        routes=_by("entry_id", _tuples(models.Route.objects.filter(**of_route).order_by(*in_order))),
        conditions=_by("route_id", _tuples(models.Condition.objects.filter(**in_route).order_by(*in_order))),
        overrides=_by("route_id", _tuples(models.Override.objects.filter(**in_route).order_by(*in_order))),
        filters=_by("route_id", _tuples(models.Filter.objects.filter(**in_route).order_by(*in_order))),
        async_fields=_by("route_id", _tuples(models.AsyncField.objects.filter(**in_route).order_by(*in_order))),
        route_guards=_by("route_id", _tuples(models.RouteGuard.objects.filter(**in_route).order_by("pk"))),
    )


def configuration_spec(rows: Rows) -> ConfigurationSpec:
    """Return everything that was read."""
    clusters = {pk: cluster_spec(row) for pk, row in rows.clusters.items()}
    guards = [GuardSpec(**_values(row, GuardSpec)) for row in rows.guards.values()]
    return ConfigurationSpec(
        gateways=tuple(_gateway_spec(rows, row) for row in rows.gateways),
        guards={each.name: each for each in guards},
        clusters={each.name: each for each in clusters.values()},
        topics=tuple(TopicSpec(cluster=clusters[row.cluster_id].name, **_values(row, TopicSpec)) for row in rows.topics),
    )


def cluster_spec(row: models.Cluster) -> ClusterSpec:
    """Return the spec of a cluster's row."""
    return ClusterSpec(**_values(row, ClusterSpec))


def route_spec(row: Any, children: Children, guarded: Guarded, cluster: str | None) -> RouteSpec:
    """Return the spec of a route's row, saved or not, given its rows by related name and the name of a cluster of its own."""
    return RouteSpec(cluster=cluster, guarded=guarded, **_values(row, RouteSpec), **_child_specs(children, ROUTE_ROWS))


def entry_spec(row: models.Entry, children: Children, guarded: Guarded, routes: Iterable[RouteSpec] = ()) -> EntrySpec:
    """Return the spec of an entry's row, saved or not, given its rows by related name and its routes."""
    rows = _child_specs(children, ENTRY_ROWS)
    return EntrySpec(guarded=guarded, routes=tuple(routes), **_values(row, EntrySpec), **rows)


def _gateway_spec(rows: Rows, row: models.Gateway) -> GatewaySpec:
    access = next(iter(rows.access_controls.get(row.pk, ())), None)
    return GatewaySpec(
        cluster=rows.clusters[row.cluster_id].name,
        guard=None if row.guard_id is None else rows.guards[row.guard_id].name,
        access_control=None if access is None else AccessControlSpec(**_frozen_values(access, AccessControlSpec)),
        entries=tuple(_entry_of(rows, each) for each in rows.entries.get(row.pk, ())),
        **_frozen_values(row, GatewaySpec),
    )


def _entry_of(rows: Rows, row: models.Entry) -> EntrySpec:
    children = {"conditions": rows.entry_conditions.get(row.pk, ())}
    guarded = _guarded(rows, rows.entry_guards.get(row.pk, ()))
    return entry_spec(row, children, guarded, [_route_of(rows, each) for each in rows.routes.get(row.pk, ())])


def _route_of(rows: Rows, row: models.Route) -> RouteSpec:
    children = {name: getattr(rows, name).get(row.id, ()) for name in ROUTE_ROWS}
    cluster = None if row.cluster_id is None else rows.clusters[row.cluster_id].name
    return route_spec(row, children, _guarded(rows, rows.route_guards.get(row.id, ())), cluster)


def _guarded(rows: Rows, required: Iterable[models.EntryGuard | models.RouteGuard]) -> Guarded:
    return {rows.guards[each.guard_id].name: _frozen(each.roles) for each in required}


def _child_specs(children: Children, kinds: Mapping[str, type[Any]]) -> dict[str, Any]:
    return {name: tuple(kind(**_values(row, kind)) for row in children.get(name, ())) for name, kind in kinds.items()}


def _values(row: Any, spec: type[Any]) -> dict[str, Any]:
    names, values = _COLUMNS[spec]
    return dict(zip(names, values(row), strict=True))


def _frozen_values(row: Any, spec: type[Any]) -> dict[str, Any]:
    """Return the values of a row that has lists."""
    return {name: _frozen(value) for name, value in _values(row, spec).items()}


def _columns(spec: type[Any]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = column_names(spec)
    if len(names) == 1:  # an attrgetter of one name returns no tuple
        return names, lambda row: (getattr(row, names[0]),)
    return names, attrgetter(*names)


_COLUMNS: Final = {
    spec: _columns(spec)
    for spec in (
        *(AccessControlSpec, ClusterSpec, ConditionSpec, EntryConditionSpec, EntrySpec, FieldSpec),
        *(FilterSpec, GatewaySpec, GuardSpec, RouteSpec, TopicSpec),
    )
}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _tuples(rows: QuerySet[T]) -> Iterable[T]:
    return cast("Iterable[T]", rows.values_list(named=True))


def _by(parent: str, found: Iterable[T]) -> ByParent[T]:
    children: defaultdict[int, list[T]] = defaultdict(list)
    for row in found:
        children[getattr(row, parent)].append(row)
    return dict(children)


def _behind(relation: str, lookups: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lookups as they are written from the other side of a relation."""
    return {f"{relation}__{name}": value for name, value in lookups.items()}
