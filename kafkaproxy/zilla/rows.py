"""Objects of the database, read and written as the same fields that a plan has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

__all__ = ["children", "delete", "find", "read", "topic_defaults", "write"]

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


def find(kind: str, key: str) -> models.Model | None:
    """Return the row of a key, if there is one."""
    lookups = dict(zip(_LOOKUPS[kind], key.split("/"), strict=True))
    row: models.Model | None = _MODELS[kind].objects.filter(**lookups).first()
    return row


def children(kind: str, key: str) -> list[tuple[str, str]]:
    """Return the kinds and keys of the entries of a gateway, or of the routes of an entry; others have none."""
    if kind == "gateway":
        return [("entry", f"{key}/{name}") for name in Entry.objects.filter(gateway__name=key).values_list("name", flat=True)]
    if kind != "entry":
        return []
    gateway, entry = key.split("/")
    routes = Route.objects.filter(entry__gateway__name=gateway, entry__name=entry)
    return [("route", f"{key}/{name}") for name in routes.values_list("name", flat=True)]


def topic_defaults() -> Fields:
    """Return what a topic's fields say where nobody said anything."""
    return {"bootstrap": False, "default_offset": "historical"}


def read(kind: str, row: models.Model) -> Fields:
    """Return the fields that a file could say."""
    reader: Callable[[Any], Fields] = _READERS[kind]
    return reader(row)


def _plain(row: models.Model, names: tuple[str, ...]) -> Fields:
    return {name: getattr(row, name) for name in names}


def _read_gateway(row: Gateway) -> Fields:
    access = AccessControl.objects.filter(gateway=row).first()
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
        "guarded": {each.guard.name: each.roles for each in row.guarded.select_related("guard")},
    }


def _read_route(row: Route) -> Fields:
    return {
        **_plain(row, (*ROUTE_FIELDS, "position")),
        "cluster": row.cluster.name if row.cluster is not None else None,
        **{
            name: [_plain(each, fields) for each in model.objects.filter(route=row)]
            for name, (model, fields) in _ROUTE_ROWS.items()
        },
        "guarded": {each.guard.name: each.roles for each in row.guarded.select_related("guard")},
    }


_READERS: Final[Mapping[str, Callable[[Any], Fields]]] = {
    "cluster": lambda row: _plain(row, CLUSTER_FIELDS),
    "guard": lambda row: _plain(row, ("kind", "options")),
    "topic": lambda row: _plain(row, ("bootstrap", "default_offset")),
    "gateway": _read_gateway,
    "entry": _read_entry,
    "route": _read_route,
}


def write(kind: str, key: str, fields: Fields) -> None:
    """Make or change the row of a key; fields that are not given stay as they are."""
    writer: Callable[[list[str], Fields], None] = _WRITERS[kind]
    writer(key.split("/"), fields)


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
    for position, condition in enumerate(fields["conditions"]):
        EntryCondition.objects.create(entry=row, position=position, **condition)
    row.guarded.all().delete()
    for guard, roles in fields["guarded"].items():
        EntryGuard.objects.create(entry=row, guard=Guard.objects.get(name=guard), roles=roles)


def _write_route(names: list[str], fields: Fields) -> None:
    entry = Entry.objects.get(gateway__name=names[0], name=names[1])
    row = Route.objects.filter(entry=entry, name=names[2]).first() or Route(entry=entry, name=names[2])
    values = {name: fields[name] for name in (*ROUTE_FIELDS, "position")}
    cluster = fields["cluster"]
    _set(row, {**values, "cluster": Cluster.objects.get(name=cluster) if cluster is not None else None})
    for name, (model, _fields) in _ROUTE_ROWS.items():
        model.objects.filter(route=row).delete()
        for position, values in enumerate(fields[name]):
            model.objects.create(route=row, position=position, **values)
    row.guarded.all().delete()
    for guard, roles in fields["guarded"].items():
        RouteGuard.objects.create(route=row, guard=Guard.objects.get(name=guard), roles=roles)


_WRITERS: Final[Mapping[str, Callable[[list[str], Fields], None]]] = {
    "cluster": _write_named(Cluster),
    "guard": _write_named(Guard),
    "topic": _write_topic,
    "gateway": _write_gateway,
    "entry": _write_entry,
    "route": _write_route,
}
