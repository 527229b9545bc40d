"""Which cluster of the database each cluster of a plan is.

Files that lead to the same Kafka share one cluster, for a cluster has one store and one set of connections. A cluster is
changed by an import only where that import made it and nobody else uses it; otherwise an edited file gets one of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kafkaproxy.models import Cluster, Gateway, ImportedObject, Route
from kafkaproxy.specs.from_rows import cluster_spec
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.sync.items import Fields, Item, cluster_fields

__all__ = ["missing_clusters", "name_clusters"]

_UNTOUCHED: Final = {"ssl_certificate": "", "ssl_key": "", "ssl_verify_hostname": True, "options": {}}
"""What a cluster that is shared has to leave at its default: all of it decides whom one talks to, and as whom."""


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
        if _fields(cluster) == item.fields or (owned and not _is_shared(cluster, item.source)):
            return cluster.name, owned
    for other in Cluster.objects.filter(**_UNTOUCHED, bootstrap_servers=item.fields["bootstrap_servers"]):
        if _fields(other) == item.fields:
            return other.name, False
    return _free_name(item, taken), True


def _fields(row: Cluster) -> Fields:
    return cluster_fields(cluster_spec(row))


def _is_shared(cluster: Cluster, source: str) -> bool:
    """Whether a gateway that another import or a person made uses the cluster."""
    own = ImportedObject.objects.filter(source=source, kind="gateway").values_list("key", flat=True)
    gateways = Gateway.objects.filter(cluster=cluster).exclude(name__in=own)
    routes = Route.objects.filter(cluster=cluster).exclude(entry__gateway__name__in=own)
    return gateways.exists() or routes.exists()


def _free_name(item: Item, taken: Iterable[str]) -> str:
    used = {*Cluster.objects.values_list("name", flat=True), *taken}
    wishes = [item.key, f"{item.source}.{item.key}"]
    wishes += [f"{item.source}.{item.key}-{number}" for number in range(2, len(used) + 3)]
    return next(name for name in wishes if name not in used)
