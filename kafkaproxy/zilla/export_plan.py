"""A gateway of the database as a plan: what an import of its own zilla.yaml would have to make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from django.db.models import Q

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.expressions import Place as TemplatePlace
from kafkaproxy.core.expressions import Template
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.models import Cluster, Entry, Gateway, Guard, Route, Topic
from kafkaproxy.specs.places import Place
from kafkaproxy.zilla.items import CLUSTER_FIELDS, CREDENTIAL_FIELDS, GATEWAY_FIELDS, ROUTE_FIELDS
from kafkaproxy.zilla.plan import (
    AccessControlPlan,
    ClusterPlan,
    ConditionPlan,
    EntryConditionPlan,
    EntryPlan,
    FilterPlan,
    GatewayPlan,
    GuardPlan,
    Plan,
    RoutePlan,
    TopicPlan,
)

__all__ = ["NOWHERE", "guard_names", "plan_of"]

NOWHERE: Final = Place("", 0)
"""Where everything stands that comes from no file."""

_ROWS: Final = ("conditions", "overrides", "filters", "async_fields", "guarded__guard")
_ACCESS_LISTS: Final = ("allow_origins", "allow_methods", "allow_headers", "expose_headers")

Roles = Mapping[str, tuple[str, ...]]


def plan_of(gateway: Gateway) -> Plan:
    """Return what the gateway is, with its clusters, topics and guards; rows that are disabled are not in it."""
    routes = Route.objects.filter(entry__gateway=gateway, enabled=True).select_related("cluster").prefetch_related(*_ROWS)
    by_entry: dict[int, list[RoutePlan]] = {}
    for route in routes.order_by("position", "pk"):
        by_entry.setdefault(route.entry_id, []).append(_route(route, gateway))
    rows = gateway.entries.filter(enabled=True).prefetch_related("conditions", "guarded__guard")
    plan = _gateway(gateway, [_entry(row, by_entry.get(row.pk, [])) for row in rows])
    names = list(dict.fromkeys(route.cluster for entry in plan.entries for route in entry.routes))
    return Plan(
        gateways=(plan,),
        clusters=tuple(_clusters(names, gateway.name)),
        topics=tuple(_topics(names, gateway.name)),
        guards=tuple(_guards(guard_names(plan), gateway.name)),
    )


def guard_names(plan: GatewayPlan) -> list[str]:
    """Return the guards that the gateway needs, in the order in which they first stand."""
    names = [plan.guard] if plan.guard is not None else []
    for entry in plan.entries:
        names += entry.guarded
        for route in entry.routes:
            names += [*route.guarded, *(each for text in _templates(route) for each in _guards_in(text))]
    return list(dict.fromkeys(names))


def _templates(route: RoutePlan) -> Iterator[str]:
    """Return the templates in which a guard may be named."""
    yield from (route.topic, route.key or "", route.reply_to)
    yield from (value for _, value in route.overrides)
    for each in route.filters:
        yield each.key or ""
        yield from (value for _, value in each.headers)


def _guards_in(text: str) -> list[str]:
    try:
        return sorted(Template.parse(mask_env(text), TemplatePlace.OVERRIDE).guard_names)
    except TemplateError:  # the import of the file refuses it, and says why
        return []


def _gateway(row: Gateway, entries: Iterable[EntryPlan]) -> GatewayPlan:
    fields: dict[str, Any] = {name: getattr(row, name) for name in GATEWAY_FIELDS}
    fields |= {name: tuple(getattr(row, name).items()) for name in CREDENTIAL_FIELDS}
    return GatewayPlan(
        source=row.name,
        name=row.name,
        cluster=row.cluster.name,
        entries=tuple(entries),
        access_control=_access_control(row),
        guard=row.guard.name if row.guard is not None else None,
        place=NOWHERE,
        **fields,
    )


def _access_control(row: Gateway) -> AccessControlPlan:
    access = getattr(row, "access_control", None)
    if access is None:
        return AccessControlPlan()
    lists = {name: tuple(value) for name in _ACCESS_LISTS if (value := getattr(access, name)) is not None}
    return AccessControlPlan(policy=access.policy, allow_credentials=access.allow_credentials, max_age=access.max_age, **lists)


def _entry(row: Entry, routes: Iterable[RoutePlan]) -> EntryPlan:
    conditions = tuple(
        EntryConditionPlan(
            level=each.level,
            scheme=each.scheme,
            authority=each.authority,
            path=each.path,
            method=each.method,
            headers=tuple(each.headers.items()),
        )
        for each in row.conditions.all()
    )
    return EntryPlan(name=row.name, conditions=conditions, guarded=_roles(row), routes=tuple(routes), place=NOWHERE)


def _route(row: Route, gateway: Gateway) -> RoutePlan:
    return RoutePlan(
        name=row.name,
        cluster=(row.cluster or gateway.cluster).name,
        conditions=tuple(ConditionPlan(method=each.method, path=each.path) for each in row.conditions.all()),
        guarded=_roles(row),
        overrides=tuple((each.name, each.value) for each in row.overrides.all()),
        async_fields=tuple((each.name, each.value) for each in row.async_fields.all()),
        filters=tuple(FilterPlan(key=each.key, headers=tuple(each.headers.items())) for each in row.filters.all()),
        place=NOWHERE,
        **{name: getattr(row, name) for name in ROUTE_FIELDS},
    )


def _roles(row: Entry | Route) -> Roles:
    return {each.guard.name: tuple(each.roles) for each in row.guarded.all()}


def _clusters(names: list[str], source: str) -> Iterator[ClusterPlan]:
    rows = {row.name: row for row in Cluster.objects.filter(name__in=names)}
    for name in names:
        fields = {each: getattr(rows[name], each) for each in CLUSTER_FIELDS}
        yield ClusterPlan(origin=name, source=source, name=name, place=NOWHERE, **fields)


def _topics(clusters: list[str], source: str) -> Iterator[TopicPlan]:
    """Return the topics of which a cache server would say something."""
    said = Q(bootstrap=True) | ~Q(default_offset=Topic.DefaultOffset.HISTORICAL)
    for row in Topic.objects.filter(said, cluster__name__in=clusters).select_related("cluster"):
        offset = row.default_offset if row.default_offset != Topic.DefaultOffset.HISTORICAL else None
        bootstrap = row.bootstrap or None
        yield TopicPlan(
            source=source,
            cluster=row.cluster.name,
            name=row.name,
            bootstrap=bootstrap,
            default_offset=offset,
            place=NOWHERE,
        )


def _guards(names: list[str], source: str) -> Iterator[GuardPlan]:
    rows = {row.name: row for row in Guard.objects.filter(name__in=names)}
    for name in names:
        if (row := rows.get(name)) is not None:
            yield GuardPlan(source=source, name=name, kind=row.kind, options=row.options, place=NOWHERE)
