"""A plan as a flat list of objects with comparable fields, which the database can be compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from kafkaproxy.specs.places import Place
from kafkaproxy.zilla.plan import EntryPlan, GatewayPlan, Plan, RoutePlan

__all__ = [
    "CLUSTER_FIELDS",
    "CREDENTIAL_FIELDS",
    "GATEWAY_FIELDS",
    "KINDS",
    "ROUTE_FIELDS",
    "Fields",
    "Item",
    "cluster_items",
    "items_of",
]

Fields = dict[str, Any]
"""Field values as JSON has them, so that what is read, planned and digested compares equal."""

KINDS: Final = ("cluster", "guard", "topic", "gateway", "entry", "route")
"""In the order in which they are made; they are removed the other way round."""
CLUSTER_FIELDS: Final = ("bootstrap_servers", "security_protocol", "sasl_mechanism", "sasl_username", "sasl_password", "ssl_ca")
GATEWAY_FIELDS: Final = ("idempotency_header", "reply_to_header", "correlation_header")
CREDENTIAL_FIELDS: Final = ("credentials_cookies", "credentials_headers", "credentials_query")
ROUTE_FIELDS: Final = ("capability", "topic", "key", "acks", "reply_to", "correlation_header", "merge", "event_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One object of the plan. ``key`` joins the names it is found by with '/', which no name has."""

    kind: str
    key: str
    source: str
    fields: Fields = field(repr=False)
    place: Place
    origin: str = ""

    @property
    def names(self) -> list[str]:
        """The names that it is found by, outermost first."""
        return self.key.split("/")


def cluster_items(plan: Plan) -> Iterator[Item]:
    """Return the clusters by the names they wish for; ``clusters.py`` decides on the real ones."""
    for cluster in plan.clusters:
        if not cluster.existing:
            fields = {name: getattr(cluster, name) for name in CLUSTER_FIELDS}
            place, source = cluster.place, cluster.source
            yield Item(kind="cluster", key=cluster.name, source=source, fields=fields, place=place, origin=cluster.origin)


def items_of(plan: Plan, clusters: Mapping[str, str]) -> Iterator[Item]:
    """Return everything but the clusters, given the names that these have."""
    for guard in plan.guards:
        fields: Fields = {"kind": guard.kind, "options": dict(guard.options)}
        yield Item(kind="guard", key=guard.name, source=guard.source, fields=fields, place=guard.place)
    for topic in plan.topics:
        stated = {"bootstrap": topic.bootstrap, "default_offset": topic.default_offset}
        fields = {name: value for name, value in stated.items() if value is not None}
        key = f"{clusters[topic.cluster]}/{topic.name}"
        yield Item(kind="topic", key=key, source=topic.source, fields=fields, place=topic.place)
    for gateway in plan.gateways:
        yield from _gateway(gateway, clusters)


def _gateway(plan: GatewayPlan, clusters: Mapping[str, str]) -> Iterator[Item]:
    fields: Fields = {
        **{name: getattr(plan, name) for name in GATEWAY_FIELDS},
        **{name: dict(getattr(plan, name)) for name in CREDENTIAL_FIELDS},
        "cluster": clusters[plan.cluster],
        "guard": plan.guard,
        "access_control": {name: _listed(value) for name, value in asdict(plan.access_control).items()},
    }
    yield Item(kind="gateway", key=plan.name, source=plan.source, fields=fields, place=plan.place)
    for position, entry in enumerate(plan.entries):
        yield from _entry(plan, entry, position, clusters)


def _entry(gateway: GatewayPlan, plan: EntryPlan, position: int, clusters: Mapping[str, str]) -> Iterator[Item]:
    key = f"{gateway.name}/{plan.name}"
    fields: Fields = {
        "position": position,
        "conditions": [{**asdict(row), "headers": dict(row.headers)} for row in plan.conditions],
        "guarded": {guard: list(roles) for guard, roles in plan.guarded.items()},
    }
    yield Item(kind="entry", key=key, source=gateway.source, fields=fields, place=plan.place)
    for number, route in enumerate(plan.routes):
        cluster = clusters[route.cluster]
        fields = _route_fields(route, number, None if cluster == clusters[gateway.cluster] else cluster)
        yield Item(kind="route", key=f"{key}/{route.name}", source=gateway.source, fields=fields, place=route.place)


def _route_fields(plan: RoutePlan, position: int, cluster: str | None) -> Fields:
    return {
        **{name: getattr(plan, name) for name in ROUTE_FIELDS},
        "position": position,
        "cluster": cluster,
        "conditions": [asdict(row) for row in plan.conditions],
        "overrides": [{"name": name, "value": value} for name, value in plan.overrides],
        "async_fields": [{"name": name, "value": value} for name, value in plan.async_fields],
        "filters": [{"key": row.key, "headers": dict(row.headers)} for row in plan.filters],
        "guarded": {guard: list(roles) for guard, roles in plan.guarded.items()},
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
