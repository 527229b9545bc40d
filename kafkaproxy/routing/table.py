"""The compiled route table: immutable, made whole from the models, swapped whole.

A request takes one :class:`Configuration` (in a ``matching.Matcher``) at its start and uses it to its end, so it never sees
half a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kafkaproxy.core.capabilities import Capability
from kafkaproxy.core.expressions import Template
from kafkaproxy.core.fields import CREDENTIAL_FIELDS
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.worker.types import Acks, ClusterConfig, TopicSettings

__all__ = [
    "AccessControl",
    "Capability",
    "Condition",
    "Configuration",
    "Credentials",
    "Entry",
    "EntryCondition",
    "Filter",
    "Gateway",
    "GuardConfig",
    "GuardRequirement",
    "Route",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRequirement:
    """A guard that has to pass, with all of these roles."""

    guard: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """A guard as configured."""

    name: str
    """By which routes and entries require it."""
    kind: str
    """By which its class is registered."""
    options: Mapping[str, Any]
    """JSON values, with ``${{env.NAME}}`` filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One alternative of a route. ``method`` None is what the capability serves, ``path`` None is every path."""

    method: str | None
    path: PathTemplate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Key and every header have to match, as bytes; None for the key is any key."""

    key: Template | None
    headers: tuple[tuple[str, Template], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a request that matches does. Fields of other capabilities have their defaults."""

    name: str
    capability: Capability
    cluster: str
    topic: Template
    conditions: tuple[Condition, ...]
    guarded: tuple[GuardRequirement, ...] = ()
    key: Template | None = None
    acks: Acks = Acks.IN_SYNC_REPLICAS
    overrides: tuple[tuple[str, Template], ...] = ()
    reply_to: Template | None = None
    correlation_header: str = ""
    """The request's correlation header; empty for the gateway's."""
    async_fields: tuple[tuple[str, Template], ...] = ()
    async_location: PathTemplate | None = None
    """The location as a path template with ``{correlationId}``: what a status poll matches."""
    timeout: float = 30.0
    """Seconds."""
    merge: bool = False
    filters: tuple[Filter, ...] = ()
    cache_control: str = "no-cache"
    event_id_key: bool = False
    start: str = "earliest"
    start_timestamp: int | None = None
    """Milliseconds since the epoch, where ``start`` is ``timestamp``."""
    base64: bool = False

    @property
    def guard_names(self) -> frozenset[str]:
        """The guards that this route requires or reads."""
        templates = [self.topic, self.key, self.reply_to, *(value for _, value in self.overrides)]
        for each in self.filters:
            templates += [each.key, *(value for _, value in each.headers)]
        names = {requirement.guard for requirement in self.guarded}
        return frozenset(names.union(*(template.guard_names for template in templates if template is not None)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryCondition:
    """One alternative of an entry; None matches anything."""

    scheme: PathTemplate | None = None
    authority: PathTemplate | None = None
    path: PathTemplate | None = None
    method: str | None = None
    headers: tuple[tuple[bytes, PathTemplate], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The outer rule. ``levels``: every level has to match, by any of its conditions; no level matches everything."""

    name: str
    levels: tuple[tuple[EntryCondition, ...], ...]
    guarded: tuple[GuardRequirement, ...]
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where the credential of a guard is found: name → pattern with ``{credentials}``."""

    guard: str
    cookies: Mapping[str, str]
    headers: Mapping[str, str]
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessControl:
    """The CORS policy; None in a list's place is any."""

    policy: str
    allow_origins: frozenset[str] | None = None
    allow_methods: frozenset[str] | None = None
    allow_headers: frozenset[str] | None = None
    allow_credentials: bool = False
    max_age: int | None = None
    expose_headers: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One namespace of entries."""

    name: str
    entries: tuple[Entry, ...]
    cluster: str
    idempotency_header: bytes = b"idempotency-key"
    reply_to_header: str = "zilla:reply-to"
    correlation_header: str = "zilla:correlation-id"
    forwarded_fields: frozenset[bytes] | None = None
    dropped_fields: frozenset[bytes] = frozenset()
    forward_credentials: bool = False
    credential_fields: frozenset[bytes] = CREDENTIAL_FIELDS
    """Fields that hold a credential whatever ``credentials`` says; the site's own field for the CSRF token is one."""
    credentials: Credentials | None = None
    access_control: AccessControl | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything the database says, compiled: the input of the matcher and of the worker."""

    version: int = 0
    known: bool = True
    """False in a process that has never loaded a configuration: any path may be a route's then."""
    gateways: tuple[Gateway, ...] = ()
    guards: Mapping[str, GuardConfig] = field(default_factory=lambda: MappingProxyType({}))
    clusters: Mapping[str, ClusterConfig] = field(default_factory=lambda: MappingProxyType({}))
    topics: Mapping[tuple[str, str], TopicSettings] = field(default_factory=lambda: MappingProxyType({}))
    """By cluster and topic name."""
