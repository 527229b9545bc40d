"""What an import makes: specs, with the origin and source that an import has to remember. No models, no database.

A zilla.yaml can say less than a spec holds (:data:`SAID`). An import touches nothing else of what an operator sets by hand: a
timeout, a store budget, an entry that is switched off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kafkaproxy.specs.types import AccessControlSpec, ClusterSpec, EntrySpec, GatewaySpec, GuardSpec, RouteSpec, TopicSpec

__all__ = [
    "CREDENTIAL_FIELDS",
    "GATEWAY_FIELDS",
    "SAID",
    "ClusterPlan",
    "GatewayPlan",
    "GuardPlan",
    "Plan",
    "TopicPlan",
    "describe",
]

GATEWAY_FIELDS: Final = ("idempotency_header", "reply_to_header", "correlation_header")
CREDENTIAL_FIELDS: Final = ("credentials_cookies", "credentials_headers", "credentials_query")
SAID: Final[Mapping[str, tuple[str, ...]]] = {
    "cluster": ("bootstrap_servers", "security_protocol", "sasl_mechanism", "sasl_username", "sasl_password", "ssl_ca"),
    "guard": ("kind", "options"),
    "topic": ("bootstrap", "default_offset"),
    "gateway": (*GATEWAY_FIELDS, *CREDENTIAL_FIELDS, "cluster", "guard", "access_control"),
    "entry": ("conditions", "guarded"),
    "route": (
        *("capability", "topic", "key", "acks", "reply_to", "correlation_header", "merge", "event_id"),
        *("cluster", "conditions", "overrides", "async_fields", "filters", "guarded"),
    ),
}
"""By kind of spec, the fields that a zilla.yaml can say, besides the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan(ClusterSpec):
    """A cluster, from a kafka client and what it leads to. ``origin`` identifies it; the name may have to be changed."""

    origin: str
    source: str
    existing: bool = False
    """True if the name is one that ``--cluster`` gave, of a cluster that has to be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan(TopicSpec):
    """The settings of a topic from a cache server: the fields in ``said``. ``cluster`` is the origin of one."""

    source: str
    said: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPlan(GuardSpec):
    """A guard that something imported names."""

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPlan(GatewaySpec):
    """A gateway: an http server that reaches a mapping. It always has access control: the reference's default is same-origin.

    The clusters of the gateway (the one that most of its routes use) and of its routes are origins.
    """

    source: str
    access_control: AccessControlSpec = field(default_factory=AccessControlSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that an import makes of one file.

    ``source`` of each object is the namespace that it was first needed for (or the name given instead). An object that an
    earlier import of the same source made, and that the file no longer has, is removed.
    """

    gateways: tuple[GatewayPlan, ...] = ()
    clusters: tuple[ClusterPlan, ...] = ()
    topics: tuple[TopicPlan, ...] = ()
    guards: tuple[GuardPlan, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources, in the order of the file."""
        return tuple(dict.fromkeys(gateway.source for gateway in self.gateways))


def describe(plan: Plan) -> Iterator[str]:
    """Return the lines of everything that is imported, gateway by gateway, in the order in which rules are tried."""
    for guard in plan.guards:
        yield f"guard {guard.name}: {guard.kind}"
    for cluster in plan.clusters:
        security = " ".join(part for part in (cluster.security_protocol, cluster.sasl_mechanism) if part)
        yield f"cluster {cluster.name}: {cluster.bootstrap_servers or 'an existing one'} {security}"
    for topic in plan.topics:
        said = ["bootstrap"] if topic.bootstrap else []
        said += [f"default offset {topic.default_offset}"] if "default_offset" in topic.said else []
        yield f"topic {topic.name}: {', '.join(said)}"
    servers = {cluster.origin: cluster.bootstrap_servers or cluster.name for cluster in plan.clusters}
    for gateway in plan.gateways:
        yield from _gateway(gateway, servers if len(servers) > 1 else {})


def _gateway(plan: GatewayPlan, servers: Mapping[str, str]) -> Iterator[str]:
    credentials = f", credentials of {plan.guard}" if plan.guard is not None else ""
    yield f"gateway {plan.name} ({plan.place}): {_access(plan.access_control)}{credentials}{_names(plan)}"
    for number, entry in enumerate(plan.entries, start=1):
        yield f"  {number}. entry {entry.name} ({entry.place}): {_conditions(entry)}{_guards(entry.guarded)}"
        if not entry.routes:
            yield "     nothing is served: a barrier"
        for place, route in enumerate(entry.routes, start=1):
            at = f", at {servers[plan.cluster_of(route)]}" if servers else ""
            yield f"     {place}. route {route.name} ({route.place}): {_route(route)}{at}"


def _access(plan: AccessControlSpec) -> str:
    listed = {"origins": plan.allow_origins, "methods": plan.allow_methods, "headers": plan.allow_headers}
    listed |= {"exposed": plan.expose_headers}
    parts = [f"{name} {' '.join(values)}" for name, values in listed.items() if values is not None]
    parts += ["credentials"] if plan.allow_credentials else []
    parts += [f"max-age {plan.max_age}"] if plan.max_age is not None else []
    return plan.policy + (f" ({', '.join(parts)})" if parts else "")


def _names(plan: GatewayPlan) -> str:
    """Return the names of fields that are not the reference's own."""
    plain = GatewaySpec(name=plan.name, cluster=plan.cluster)
    changed = [name for name in GATEWAY_FIELDS if getattr(plan, name) != getattr(plain, name)]
    return "".join(f", {name.replace('_', ' ')} {getattr(plan, name)}" for name in changed)


def _conditions(entry: EntrySpec) -> str:
    levels = sorted({row.level for row in entry.conditions})
    texts = [" or ".join(str(row) for row in entry.conditions if row.level == level) for level in levels]
    return " and ".join(f"({text})" if len(texts) > 1 else text for text in texts) or "*"


def _guards(guarded: Mapping[str, tuple[str, ...]]) -> str:
    texts = [f"{guard} [{', '.join(roles)}]" for guard, roles in guarded.items()]
    return f", guarded by {' and '.join(texts)}" if texts else ""


def _route(plan: RouteSpec) -> str:
    conditions = " or ".join(str(row) for row in plan.conditions) or "*"
    return f"{conditions} → {plan.capability} {plan.topic}{_details(plan)}{_guards(plan.guarded)}"


def _details(plan: RouteSpec) -> str:
    parts = [f"key {plan.key}"] if plan.key is not None else []
    parts += [f"acks {plan.acks}"] if plan.acks != "in_sync_replicas" else []
    parts += [f"reply-to {plan.reply_to}"] if plan.reply_to else []
    parts += [f"correlation-id {plan.correlation_header}"] if plan.correlation_header else []
    parts += [f"{name} {value}" for name, value in plan.async_fields]
    parts += [f"override {name}: {value}" for name, value in plan.overrides]
    parts += ["merge"] if plan.merge else []
    for each in plan.filters:
        tests = [f"key {each.key}"] if each.key is not None else []
        tests += [f"{name}: {value}" for name, value in each.headers.items()]
        parts.append(f"filter {' and '.join(tests)}")
    parts += ["event id with key"] if plan.event_id == "key_and_etag" else []
    return "".join(f", {part}" for part in parts)
