"""Objects of the database, read and written as the same fields that a plan has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from django.db import models
from django.db.models import Max

from kafkaproxy.models import (
    AccessControl,
    AsyncField,
    Cluster,
    Condition,
    Entry,
    EntryCondition,
    EntryGuard,
    Filter,
    Gateway,
    Guard,
    Override,
    Route,
    RouteGuard,
    Topic,
)
from kafkaproxy.zilla.items import CLUSTER_FIELDS, CREDENTIAL_FIELDS, GATEWAY_FIELDS, ROUTE_FIELDS, Fields

__all__ = ["delete", "find", "read_cluster", "read_rows", "topic_defaults", "write"]

_CONDITION_FIELDS: Final = ("level", "scheme", "authority", "path", "method", "headers")
_ACCESS_FIELDS: Final = (
    *("policy", "allow_origins", "allow_methods", "allow_headers"),
    *("allow_credentials", "max_age", "expose_headers"),
)
_ROUTE_ROWS: Final[Mapping[str, tuple[type[Any], tuple[str, ...]]]] = {
    "conditions": (Condition, ("method", "path")),
    "overrides": (Override, ("name", "value")),
    "async_fields": (AsyncField, ("name", "value")),
    "filters": (Filter, ("key", "headers")),
}
_MODELS: Final[Mapping[str, type[Any]]] = {
    "cluster": Cluster,
    "guard": Guard,
    "topic": Topic,
    "gateway": Gateway,
    "entry": Entry,
    "route": Route,
}
_LOOKUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "cluster": ("name",),
    "guard": ("name",),
    "topic": ("cluster__name", "name"),
    "gateway": ("name",),
    "entry": ("gateway__name", "name"),
    "route": ("entry__gateway__name", "entry__name", "name"),
}


def topic_defaults() -> Fields:
    """Return what a topic's fields say where nobody said anything."""
    return {"bootstrap": False, "default_offset": "historical"}


def read_cluster(row: Cluster) -> Fields:
    """Return the fields of a cluster that a file could say."""
    return _plain(row, CLUSTER_FIELDS)


def read_rows(gateways: Iterable[str]) -> dict[tuple[str, str], Fields]:
    """Return the fields that a file could say, by kind and key: of the gateways named, and of all that may be shared.

    The number of queries does not depend on the number of rows.
    """
    found = {("cluster", row.name): read_cluster(row) for row in Cluster.objects.all()}
    found |= {("guard", row.name): _plain(row, ("kind", "options")) for row in Guard.objects.all()}
    topics = Topic.objects.select_related("cluster")
    found |= {("topic", f"{row.cluster.name}/{row.name}"): _plain(row, ("bootstrap", "default_offset")) for row in topics}
    rows = Gateway.objects.filter(name__in=list(gateways)).select_related("cluster", "guard", "access_control")
    for gateway in rows:
        found["gateway", gateway.name] = _read_gateway(gateway)
        for entry in gateway.entries.prefetch_related("conditions", "guarded__guard"):
            found["entry", f"{gateway.name}/{entry.name}"] = _read_entry(entry)
        routes = Route.objects.filter(entry__gateway=gateway).select_related("entry", "cluster")
        for route in routes.prefetch_related(*_ROUTE_ROWS, "guarded__guard"):
            found["route", f"{gateway.name}/{route.entry.name}/{route.name}"] = _read_route(route)
    return found


def _plain(row: models.Model, names: tuple[str, ...]) -> Fields:
    return {name: getattr(row, name) for name in names}


def _read_gateway(row: Gateway) -> Fields:
    access = getattr(row, "access_control", None)
    return {
        **_plain(row, (*GATEWAY_FIELDS, *CREDENTIAL_FIELDS)),
        "cluster": row.cluster.name,
        "guard": row.guard.name if row.guard is not None else None,
        "access_control": _plain(access, _ACCESS_FIELDS) if access is not None else None,
    }


def _read_entry(row: Entry) -> Fields:
    return {
        "position": row.position,
        "conditions": [_plain(each, _CONDITION_FIELDS) for each in row.conditions.all()],
        "guarded": {each.guard.name: each.roles for each in row.guarded.all()},
    }


def _read_route(row: Route) -> Fields:
    return {
        **_plain(row, (*ROUTE_FIELDS, "position")),
        "cluster": row.cluster.name if row.cluster is not None else None,
        **{name: [_plain(each, fields) for each in getattr(row, name).all()] for name, (_, fields) in _ROUTE_ROWS.items()},
        "guarded": {each.guard.name: each.roles for each in row.guarded.all()},
    }


def write(kind: str, key: str, fields: Fields) -> None:
    """Make or change the row of a key; fields that are not given stay as they are."""
    writer: Callable[[list[str], Fields], None] = _WRITERS[kind]
    writer(key.split("/"), fields)


def find(kind: str, key: str) -> Any:
    """Return the row of a key, or None."""
    lookups = dict(zip(_LOOKUPS[kind], key.split("/"), strict=True))
    return _MODELS[kind].objects.filter(**lookups).first()


def delete(kind: str, key: str) -> None:
    """Remove the row of a key, and all that belongs to it."""
    row = find(kind, key)
    if row is not None:
        row.delete()


def _set(row: models.Model, values: Fields) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def _write_named(model: type[Cluster] | type[Guard]) -> Callable[[list[str], Fields], None]:
    def write_one(names: list[str], fields: Fields) -> None:
        _set(model.objects.filter(name=names[0]).first() or model(name=names[0]), fields)

    return write_one


def _write_topic(names: list[str], fields: Fields) -> None:
    cluster = Cluster.objects.get(name=names[0])
    _set(Topic.objects.filter(cluster=cluster, name=names[1]).first() or Topic(cluster=cluster, name=names[1]), fields)


def _write_gateway(names: list[str], fields: Fields) -> None:
    values = {name: value for name, value in fields.items() if name != "access_control"}
    values["cluster"] = Cluster.objects.get(name=fields["cluster"])
    values["guard"] = Guard.objects.get(name=fields["guard"]) if fields["guard"] is not None else None
    row = Gateway.objects.filter(name=names[0]).first()
    if row is None:
        last = Gateway.objects.aggregate(last=Max("position"))["last"]
        row = Gateway(name=names[0], position=0 if last is None else last + 1)
    _set(row, values)
    access = AccessControl.objects.filter(gateway=row).first() or AccessControl(gateway=row)
    _set(access, fields["access_control"])


def _write_entry(names: list[str], fields: Fields) -> None:
    gateway = Gateway.objects.get(name=names[0])
    row = Entry.objects.filter(gateway=gateway, name=names[1]).first() or Entry(gateway=gateway, name=names[1])
    _set(row, {"position": fields["position"]})
    row.conditions.all().delete()
    EntryCondition.objects.bulk_create(
        EntryCondition(entry=row, position=position, **condition) for position, condition in enumerate(fields["conditions"])
    )
    row.guarded.all().delete()
    EntryGuard.objects.bulk_create(
        EntryGuard(entry=row, guard=guard, roles=roles) for guard, roles in _guards(fields["guarded"])
    )


def _write_route(names: list[str], fields: Fields) -> None:
    entry = Entry.objects.get(gateway__name=names[0], name=names[1])
    row = Route.objects.filter(entry=entry, name=names[2]).first() or Route(entry=entry, name=names[2])
    values = {name: fields[name] for name in (*ROUTE_FIELDS, "position")}
    cluster = fields["cluster"]
    _set(row, {**values, "cluster": Cluster.objects.get(name=cluster) if cluster is not None else None})
    for name, (model, _fields) in _ROUTE_ROWS.items():
        model.objects.filter(route=row).delete()
        model.objects.bulk_create(model(route=row, position=number, **each) for number, each in enumerate(fields[name]))
    row.guarded.all().delete()
    RouteGuard.objects.bulk_create(
        RouteGuard(route=row, guard=guard, roles=roles) for guard, roles in _guards(fields["guarded"])
    )


def _guards(guarded: Mapping[str, list[str]]) -> Iterator[tuple[Guard, list[str]]]:
    for name, roles in guarded.items():
        yield Guard.objects.get(name=name), roles


_WRITERS: Final[Mapping[str, Callable[[list[str], Fields], None]]] = {
    "cluster": _write_named(Cluster),
    "guard": _write_named(Guard),
    "topic": _write_topic,
    "gateway": _write_gateway,
    "entry": _write_entry,
    "route": _write_route,
}
