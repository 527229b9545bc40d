"""What an import makes, as plain values: no lines of YAML, no models, no database.

Fields have the models' names. Only what a zilla.yaml can say is here, so whatever else an operator sets by hand (a timeout, a
store budget, an entry switched off) is nothing that an import would touch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kafkaproxy.specs.places import Place

__all__ = ["AccessControlPlan", "ClusterPlan", "ConditionPlan", "EntryConditionPlan", "EntryPlan", "FilterPlan"]
__all__ += ["GatewayPlan", "GuardPlan", "Pairs", "Plan", "RoutePlan", "TopicPlan"]

Pairs = tuple[tuple[str, str], ...]
Roles = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """A cluster, from a kafka client and what it leads to. ``origin`` says which: the name is only a wish."""

    origin: str
    source: str
    name: str
    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = field(default="", repr=False)
    sasl_password: str = field(default="", repr=False)
    ssl_ca: str = field(default="", repr=False)
    existing: bool = False
    """Whether the name is one that ``--cluster`` gave, of a cluster that has to be there."""
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """What a cache server says of a topic; None is what it leaves open. ``cluster`` is the origin of one."""

    source: str
    cluster: str
    name: str
    bootstrap: bool | None = None
    default_offset: str | None = None
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPlan:
    """A guard that something imported names."""

    source: str
    name: str
    kind: str
    options: Mapping[str, Any] = field(repr=False)
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessControlPlan:
    """The CORS policy of a gateway. An imported gateway always has one: the reference's default is same-origin."""

    policy: str = "same-origin"
    allow_origins: tuple[str, ...] | None = None
    allow_methods: tuple[str, ...] | None = None
    allow_headers: tuple[str, ...] | None = None
    allow_credentials: bool = False
    max_age: int | None = None
    expose_headers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryConditionPlan:
    """One alternative of one level of an entry."""

    level: int = 0
    scheme: str = ""
    authority: str = ""
    path: str = ""
    method: str = ""
    headers: Pairs = ()

    def __str__(self) -> str:
        scheme = f"{self.scheme}://" if self.scheme else ""
        fields = [f"{name}: {value}" for name, value in self.headers]
        return " ".join(part for part in (self.method, f"{scheme}{self.authority}{self.path}", *fields) if part) or "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionPlan:
    """One alternative of a route."""

    method: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"{self.method or '*'} {self.path or '*'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterPlan:
    """Which records a fetch or stream serves."""

    key: str | None = None
    headers: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePlan:
    """A route. ``cluster`` is the origin of its cluster."""

    name: str
    capability: str
    cluster: str
    topic: str
    conditions: tuple[ConditionPlan, ...] = ()
    guarded: Roles = field(default_factory=dict)
    key: str | None = None
    acks: str = "in_sync_replicas"
    reply_to: str = ""
    correlation_header: str = ""
    overrides: Pairs = ()
    async_fields: Pairs = ()
    merge: bool = False
    filters: tuple[FilterPlan, ...] = ()
    event_id: str = "etag"
    place: Place = field(compare=False)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)
    """Where each field stands."""

    def at(self, name: str) -> Place:
        """Return where a field stands, or the route."""
        return self.places.get(name, self.place)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPlan:
    """An entry. Without routes it is a barrier: what it matches is not served by a later one."""

    name: str
    conditions: tuple[EntryConditionPlan, ...] = ()
    guarded: Roles = field(default_factory=dict)
    routes: tuple[RoutePlan, ...] = ()
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPlan:
    """A gateway: an http server that reaches a mapping. ``cluster`` is the origin of the one most of its routes use."""

    source: str
    name: str
    cluster: str
    entries: tuple[EntryPlan, ...]
    access_control: AccessControlPlan = AccessControlPlan()
    idempotency_header: str = "idempotency-key"
    reply_to_header: str = "zilla:reply-to"
    correlation_header: str = "zilla:correlation-id"
    guard: str | None = None
    credentials_cookies: Pairs = ()
    credentials_headers: Pairs = ()
    credentials_query: Pairs = ()
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that one file makes.

    ``source`` of each thing is the namespace that it was first needed for (or the name given instead): what an import of the
    same source made before, and the file no longer has, is removed.
    """

    gateways: tuple[GatewayPlan, ...] = ()
    clusters: tuple[ClusterPlan, ...] = ()
    topics: tuple[TopicPlan, ...] = ()
    guards: tuple[GuardPlan, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources, in the order of the file."""
        return tuple(dict.fromkeys(gateway.source for gateway in self.gateways))
