"""What an import makes: specs, with the origin and source that an import has to remember. No models, no database.

A zilla.yaml can say less than a spec holds (:data:`SAID`). An import touches nothing else of what an operator sets by hand: a
timeout, a store budget, an entry that is switched off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kafkaproxy.specs.types import AccessControlSpec, ClusterSpec, GatewaySpec, GuardSpec, TopicSpec

__all__ = ["CREDENTIAL_FIELDS", "GATEWAY_FIELDS", "SAID", "ClusterPlan", "GatewayPlan", "GuardPlan", "Plan", "TopicPlan"]

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
