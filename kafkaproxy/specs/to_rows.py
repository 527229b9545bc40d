"""From specs to the rows of the models: the only place that knows both, with ``from_rows``.

A row is found by its key: the names of its natural key joined with '/', which no name has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from kafkaproxy import models
from kafkaproxy.specs.types import (
    AccessControlSpec,
    ClusterSpec,
    EntrySpec,
    GatewaySpec,
    Guarded,
    GuardSpec,
    RouteSpec,
    TopicSpec,
)
from kafkaproxy.specs.values import column_names, plain

__all__ = ["Spec", "child_rows", "delete_row", "find_row", "unsaved_row", "write_row"]

Spec = ClusterSpec | GuardSpec | TopicSpec | GatewaySpec | EntrySpec | RouteSpec

_MODELS: Final[Mapping[str, type[Any]]] = {
    "cluster": models.Cluster,
    "guard": models.Guard,
    "topic": models.Topic,
    "gateway": models.Gateway,
    "entry": models.Entry,
    "route": models.Route,
    "accesscontrol": models.AccessControl,
}
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "cluster": column_names(ClusterSpec),
    "guard": column_names(GuardSpec),
    "topic": column_names(TopicSpec),
    "gateway": column_names(GatewaySpec),
    "entry": column_names(EntrySpec),
    "route": column_names(RouteSpec),
    "accesscontrol": column_names(AccessControlSpec),
}
_PARENTS: Final = {"topic": "cluster", "entry": "gateway", "route": "entry"}
_CHILDREN: Final[Mapping[str, Mapping[str, type[Any]]]] = {
    "entry": {"conditions": models.EntryCondition},
    "route": {
        "conditions": models.Condition,
        "overrides": models.Override,
        "async_fields": models.AsyncField,
        "filters": models.Filter,
    },
}
_REQUIREMENTS: Final[Mapping[str, type[Any]]] = {"entry": models.EntryGuard, "route": models.RouteGuard}


def find_row(kind: str, key: str) -> Any:
    """Return the row of a key, or None. ``kind`` is the name of a model in lower case."""
    model = _MODELS[kind]
    try:
        return model.objects.get_by_natural_key(*key.split("/"))
    except model.DoesNotExist:
        return None


def delete_row(kind: str, key: str) -> None:
    """Remove the row of a key, and all that belongs to it."""
    if (row := find_row(kind, key)) is not None:
        row.delete()


def write_row(kind: str, key: str, spec: Spec, names: Collection[str], position: int | None = None) -> None:
    """Make or change the row of a key, and the rows that belong to it; what the spec refers to has to be there.

    ``names`` are the fields of the spec that are written: others stay as they are, or have the model's default in a new row.
    ``position`` None leaves the row at its place, or puts a new one last. An entry's routes are written one by one.
    """
    row = find_row(kind, key) or _new_row(kind, key)
    for name in _COLUMNS[kind]:
        if name in names:
            setattr(row, name, plain(getattr(spec, name)))
    for name in ("cluster", "guard"):
        if name in names:
            value = getattr(spec, name)
            setattr(row, name, None if value is None else _MODELS[name].objects.get(name=value))
    if position is not None:
        row.position = position
    row.save()
    for name, model in _CHILDREN.get(kind, {}).items():
        if name in names:
            _replace(model, {kind: row}, [plain(each) for each in getattr(spec, name)])
    if isinstance(spec, (EntrySpec, RouteSpec)) and "guarded" in names:
        _require(_REQUIREMENTS[kind], {kind: row}, spec.guarded)
    if isinstance(spec, GatewaySpec) and "access_control" in names:
        _write_access_control(row, spec.access_control)


def unsaved_row(kind: str, spec: Spec | AccessControlSpec) -> Any:
    """Return a row with every column that the spec has, to validate it: it refers to nothing."""
    return _MODELS[kind](**{name: plain(getattr(spec, name)) for name in _COLUMNS[kind]})


def child_rows(kind: str, spec: EntrySpec | RouteSpec) -> Iterator[tuple[str, Any]]:
    """Yield the rows that belong to an entry or a route, not saved, each with its related name."""
    for name, model in _CHILDREN[kind].items():
        for each in getattr(spec, name):
            yield name, model(**plain(each))


def _new_row(kind: str, key: str) -> Any:
    outer, _, name = key.rpartition("/")
    parent = _PARENTS.get(kind)
    return _MODELS[kind](name=name, **({parent: find_row(parent, outer)} if parent is not None else {}))


def _replace(model: type[Any], parent: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    model.objects.filter(**parent).delete()
    model.objects.bulk_create(model(**parent, position=number, **each) for number, each in enumerate(rows))


def _require(model: type[Any], parent: Mapping[str, Any], guarded: Guarded) -> None:
    model.objects.filter(**parent).delete()
    guards = {name: models.Guard.objects.get(name=name) for name in guarded}
    model.objects.bulk_create(model(**parent, guard=guards[name], roles=list(roles)) for name, roles in guarded.items())


def _write_access_control(gateway: models.Gateway, spec: AccessControlSpec | None) -> None:
    rows = models.AccessControl.objects.filter(gateway=gateway)
    if spec is None:
        rows.delete()
        return
    row = rows.first() or models.AccessControl(gateway=gateway)
    for name, value in plain(spec).items():
        setattr(row, name, value)
    row.save()
