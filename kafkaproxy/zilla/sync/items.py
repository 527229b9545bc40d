"""A plan and the stored rows as flat lists of objects whose fields can be compared one by one.

Files that lead to the same Kafka share one cluster, for a cluster has one store and one set of connections. A cluster is
changed by an import only where that import made it and no other gateway uses it; otherwise an edited file gets its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kafkaproxy.models import Cluster, Gateway, ImportedObject, Route
from kafkaproxy.specs.from_rows import cluster_spec, configuration_spec, read_rows
from kafkaproxy.specs.to_rows import Spec
from kafkaproxy.specs.types import ConfigurationSpec, FilePlace
from kafkaproxy.specs.values import plain
from kafkaproxy.zilla.plan import SAID, GatewayPlan, Plan

__all__ = ["KINDS", "Fields", "Item", "ObjectKey", "Stored"]
__all__ += ["cluster_items", "items_of", "missing_clusters", "name_clusters", "stored_objects"]

Fields = dict[str, Any]
"""Field values as JSON has them, so that what is stored, planned and digested compares equal."""

ObjectKey = tuple[str, str]
"""A kind, and the names by which the object is found, joined with '/', which no name has."""

KINDS: Final = ("cluster", "guard", "topic", "gateway", "entry", "route")
"""In the order in which they are made; they are removed the other way round."""

_ORDERED: Final = {kind: ("position", *SAID[kind]) for kind in ("entry", "route")}
"""Fields of what has a place among its siblings."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of the database, and its place among its siblings, where that counts."""

    spec: Spec = field(repr=False)
    position: int | None = None

    def fields(self, names: Iterable[str]) -> Fields:
        """Return the values of these fields."""
        return {name: self.position if name == "position" else plain(getattr(self.spec, name)) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One object of the plan. ``names`` are the fields that the file says; clusters have their real names."""

    kind: str
    key: str
    source: str
    spec: Spec = field(repr=False)
    names: tuple[str, ...]
    place: FilePlace
    origin: str = ""
    position: int | None = None

    @property
    def fields(self) -> Fields:
        """The values of the fields that the file says."""
        return Stored(self.spec, self.position).fields(self.names)


def cluster_items(plan: Plan) -> Iterator[Item]:
    """Return the clusters by the names they wish for; ``name_clusters`` decides on the real ones."""
    for cluster in plan.clusters:
        if not cluster.existing:
            place, source, names = cluster.place, cluster.source, SAID["cluster"]
            key, origin = cluster.name, cluster.origin
            yield Item(kind="cluster", key=key, source=source, spec=cluster, names=names, place=place, origin=origin)


def items_of(plan: Plan, clusters: Mapping[str, str]) -> Iterator[Item]:
    """Return everything but the clusters, given the names that these have."""
    for guard in plan.guards:
        yield Item(kind="guard", key=guard.name, source=guard.source, spec=guard, names=SAID["guard"], place=guard.place)
    for topic in plan.topics:
        names = tuple(name for name in SAID["topic"] if name in topic.said)
        key = f"{clusters[topic.cluster]}/{topic.name}"
        yield Item(kind="topic", key=key, source=topic.source, spec=topic, names=names, place=topic.place)
    for gateway in plan.gateways:
        yield from _gateway(gateway, clusters)


def _gateway(plan: GatewayPlan, clusters: Mapping[str, str]) -> Iterator[Item]:
    named = replace(plan, cluster=clusters[plan.cluster])
    names = SAID["gateway"]
    yield Item(kind="gateway", key=plan.name, source=plan.source, spec=named, names=names, place=plan.place)
    for position, entry in enumerate(plan.entries):
        key, names = f"{plan.name}/{entry.name}", _ORDERED["entry"]
        place = entry.place
        yield Item(kind="entry", key=key, source=plan.source, spec=entry, names=names, place=place, position=position)
        for number, route in enumerate(entry.routes):
            cluster = clusters[plan.cluster_of(route)]
            yield Item(
                kind="route",
                key=f"{key}/{route.name}",
                source=plan.source,
                spec=replace(route, cluster=None if cluster == named.cluster else cluster),
                names=_ORDERED["route"],
                place=route.place,
                position=number,
            )


def stored_objects(gateways: Iterable[str]) -> dict[ObjectKey, Stored]:
    """Read the gateways named, enabled or not, and all that may be shared.

    The number of queries does not depend on the number of rows.
    """
    rows = read_rows(list(gateways), enabled=False)
    spec = configuration_spec(rows)
    found = dict(_shared(spec))
    for gateway, gateway_spec in zip(rows.gateways, spec.gateways, strict=True):
        found["gateway", gateway.name] = Stored(gateway_spec)
        for entry, entry_spec in zip(rows.entries.get(gateway.pk, ()), gateway_spec.entries, strict=True):
            found["entry", f"{gateway.name}/{entry.name}"] = Stored(entry_spec, entry.position)
            for route, route_spec in zip(rows.routes.get(entry.pk, ()), entry_spec.routes, strict=True):
                found["route", f"{gateway.name}/{entry.name}/{route.name}"] = Stored(route_spec, route.position)
    return found


def _shared(spec: ConfigurationSpec) -> Iterator[tuple[ObjectKey, Stored]]:
    yield from ((("cluster", name), Stored(each)) for name, each in spec.clusters.items())
    yield from ((("guard", name), Stored(each)) for name, each in spec.guards.items())
    yield from ((("topic", f"{each.cluster}/{each.name}"), Stored(each)) for each in spec.topics)


_UNTOUCHED: Final = {"ssl_certificate": "", "ssl_key": "", "ssl_verify_hostname": True, "options": {}}
"""Defaults that a cluster must have to be shared: these fields decide which brokers are connected to, and as which user."""


def missing_clusters(plan: Plan) -> list[str]:
    """Return the clusters that were said to exist, and do not."""
    wanted = {cluster.name for cluster in plan.clusters if cluster.existing}
    return sorted(wanted.difference(Cluster.objects.filter(name__in=wanted).values_list("name", flat=True)))


def name_clusters(items: Iterable[Item]) -> Iterator[tuple[Item, str, bool]]:
    """Return each cluster with the name it has, and whether the import owns it: makes it, or made it."""
    taken: dict[str, Item] = {}
    for item in items:
        same = next((name for name, other in taken.items() if other.fields == item.fields), None)
        name, owned = (same, False) if same is not None else _name(item, taken)
        taken.setdefault(name, item)
        yield item, name, owned


def _name(item: Item, taken: Iterable[str]) -> tuple[str, bool]:
    record = ImportedObject.objects.filter(source=item.source, kind="cluster", origin=item.origin).first()
    cluster = Cluster.objects.filter(name=record.key).first() if record is not None else None
    if record is not None and cluster is not None:
        owned = bool(record.digests)
        if _cluster_fields(cluster) == item.fields or (owned and not _is_shared(cluster, item.source)):
            return cluster.name, owned
    for other in Cluster.objects.filter(**_UNTOUCHED, bootstrap_servers=item.fields["bootstrap_servers"]):
        if _cluster_fields(other) == item.fields:
            return other.name, False
    return _free_name(item, taken), True


def _cluster_fields(row: Cluster) -> Fields:
    return Stored(cluster_spec(row)).fields(SAID["cluster"])


def _is_shared(cluster: Cluster, source: str) -> bool:
    """Return True if a gateway that this source did not make uses the cluster."""
    own = ImportedObject.objects.filter(source=source, kind="gateway").values_list("key", flat=True)
    gateways = Gateway.objects.filter(cluster=cluster).exclude(name__in=own)
    routes = Route.objects.filter(cluster=cluster).exclude(entry__gateway__name__in=own)
    return gateways.exists() or routes.exists()


def _free_name(item: Item, taken: Iterable[str]) -> str:
    used = {*Cluster.objects.values_list("name", flat=True), *taken}
    wishes = [item.key, f"{item.source}.{item.key}"]
    wishes += [f"{item.source}.{item.key}-{number}" for number in range(2, len(used) + 3)]
    return next(name for name in wishes if name not in used)
