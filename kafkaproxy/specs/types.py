"""Gateways, entries, routes, guards, clusters and topics as they are written.

Fields have the names and the values of the models, but for these: other objects are referred to by name, rows are tuples in
order, and lists are tuples. Nothing is parsed and nothing is resolved: ``${{env.NAME}}`` may stand in any text. What is
disabled is left out by the reader. ``place`` says where a spec was written; it takes no part in comparisons.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

__all__ = [
    "NOWHERE",
    "AccessControlSpec",
    "ClusterSpec",
    "ConditionSpec",
    "ConfigurationSpec",
    "EntryConditionSpec",
    "EntrySpec",
    "FieldSpec",
    "FilePlace",
    "FilterSpec",
    "GatewaySpec",
    "GuardSpec",
    "Guarded",
    "Line",
    "Resolve",
    "RouteSpec",
    "TopicSpec",
]


class Line(int):
    """A line that knows its file: that of a specification, whose parts stand between those of the zilla.yaml."""

    file: str

    def __new__(cls, file: str, number: int) -> Line:
        """Return the line ``number`` of ``file``."""
        line = super().__new__(cls, number)
        line.file = file
        return line


@dataclass(frozen=True, slots=True, order=True)
class FilePlace:
    """A line of a file; line 0 is the file as a whole. A :class:`Line` replaces ``file`` by its own."""

    file: str
    line: int

    def __post_init__(self) -> None:
        """Take the file from the line."""
        if isinstance(self.line, Line):
            object.__setattr__(self, "file", self.line.file)
            object.__setattr__(self, "line", int(self.line))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


NOWHERE: Final = FilePlace("", 0)
"""The place of what was read from rows."""


Guarded = Mapping[str, tuple[str, ...]]
"""The roles that are needed, by the name of the guard. All guards have to pass, each with all of its roles."""

Resolve = Callable[[str], str]
"""A function that replaces ``${{env.NAME}}`` in a text."""


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """One alternative of a route. An empty method is what the capability serves, an empty path every path."""

    method: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"{self.method or '*'} {self.path or '*'}"


class FieldSpec(NamedTuple):
    """A name and a template: a record header that a route sets, or a response field of a 202."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """Which records a fetch or a stream serves: those whose key and headers all match. None for the key is any key."""

    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """What requests that match do with a topic. ``cluster`` None is the gateway's."""

    name: str
    capability: str
    topic: str
    cluster: str | None = None
    conditions: tuple[ConditionSpec, ...] = ()
    guarded: Guarded = field(default_factory=dict)
    key: str | None = None
    acks: str = "in_sync_replicas"
    reply_to: str = ""
    correlation_header: str = ""
    timeout: int = 30
    """Seconds."""
    overrides: tuple[FieldSpec, ...] = ()
    async_fields: tuple[FieldSpec, ...] = ()
    merge: bool = False
    cache_control: str = ""
    filters: tuple[FilterSpec, ...] = ()
    event_id: str = "etag"
    start: str = "earliest"
    start_timestamp: dt.datetime | None = None
    encoding: str = "text"
    place: FilePlace = field(default=NOWHERE, compare=False)
    places: Mapping[str, FilePlace] = field(default_factory=dict, compare=False)
    """Where each field was written, as far as that is known."""

    def at(self, name: str) -> FilePlace:
        """Return where a field was written, or the route."""
        return self.places.get(name, self.place)

    def resolved(self, resolve: Resolve) -> RouteSpec:
        """Return the route with every template, path and role resolved."""
        return replace(
            self,
            topic=resolve(self.topic),
            key=None if self.key is None else resolve(self.key),
            reply_to=resolve(self.reply_to),
            conditions=tuple(ConditionSpec(each.method, resolve(each.path)) for each in self.conditions),
            overrides=_resolved_fields(self.overrides, resolve),
            async_fields=_resolved_fields(self.async_fields, resolve),
            filters=tuple(
                FilterSpec(None if each.key is None else resolve(each.key), _resolved_values(each.headers, resolve))
                for each in self.filters
            ),
            guarded=_resolved_roles(self.guarded, resolve),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryConditionSpec:
    """One alternative of one level of an entry; what is empty matches anything."""

    level: int = 0
    scheme: str = ""
    authority: str = ""
    path: str = ""
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        scheme = f"{self.scheme}://" if self.scheme else ""
        fields = [f"{name}: {value}" for name, value in self.headers.items()]
        return " ".join(part for part in (self.method, f"{scheme}{self.authority}{self.path}", *fields) if part) or "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySpec:
    """The outer rule of a gateway, and its routes in order. Without routes it is a barrier: no later entry is tried."""

    name: str
    conditions: tuple[EntryConditionSpec, ...] = ()
    guarded: Guarded = field(default_factory=dict)
    routes: tuple[RouteSpec, ...] = ()
    place: FilePlace = field(default=NOWHERE, compare=False)

    def resolved(self, resolve: Resolve) -> EntrySpec:
        """Return the entry with every pattern and role resolved; its routes stay as they are."""
        conditions = tuple(
            replace(
                each,
                scheme=resolve(each.scheme),
                authority=resolve(each.authority),
                path=resolve(each.path),
                headers=_resolved_values(each.headers, resolve),
            )
            for each in self.conditions
        )
        return replace(self, conditions=conditions, guarded=_resolved_roles(self.guarded, resolve))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessControlSpec:
    """The CORS policy of a gateway. None for a list is any."""

    policy: str = "same-origin"
    allow_origins: tuple[str, ...] | None = None
    allow_methods: tuple[str, ...] | None = None
    allow_headers: tuple[str, ...] | None = None
    allow_credentials: bool = False
    max_age: int | None = None
    """Seconds."""
    expose_headers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySpec:
    """One namespace of entries, in order. ``access_control`` None follows the site's django-cors-headers settings."""

    name: str
    cluster: str
    entries: tuple[EntrySpec, ...] = ()
    access_control: AccessControlSpec | None = None
    idempotency_header: str = "idempotency-key"
    reply_to_header: str = "zilla:reply-to"
    correlation_header: str = "zilla:correlation-id"
    forwarded_fields: tuple[str, ...] | None = None
    dropped_fields: tuple[str, ...] = ()
    forward_credentials: bool = False
    guard: str | None = None
    """The guard that the credentials belong to."""
    credentials_cookies: Mapping[str, str] = field(default_factory=dict)
    credentials_headers: Mapping[str, str] = field(default_factory=dict)
    credentials_query: Mapping[str, str] = field(default_factory=dict)
    place: FilePlace = field(default=NOWHERE, compare=False)

    def cluster_of(self, route: RouteSpec) -> str:
        """Return the name of the cluster that a route of this gateway uses."""
        return self.cluster if route.cluster is None else route.cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSpec:
    """A guard; ``kind`` names the class that reads the options, which may hold secrets."""

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    place: FilePlace = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """A Kafka cluster: where it is and how to authenticate."""

    name: str
    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = field(default="", repr=False)
    sasl_password: str = field(default="", repr=False)
    ssl_ca: str = field(default="", repr=False)
    ssl_certificate: str = field(default="", repr=False)
    ssl_key: str = field(default="", repr=False)
    ssl_key_password: str = field(default="", repr=False)
    ssl_verify_hostname: bool = True
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    place: FilePlace = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """What is set for one topic of a cluster."""

    cluster: str
    name: str
    bootstrap: bool = False
    default_offset: str = "historical"
    cleanup_policy: str = "broker"
    store_bytes: int | None = None
    sensitive: bool = False
    place: FilePlace = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationSpec:
    """A whole configuration, in order. Guards and clusters are found by name."""

    gateways: tuple[GatewaySpec, ...] = ()
    guards: Mapping[str, GuardSpec] = field(default_factory=dict)
    clusters: Mapping[str, ClusterSpec] = field(default_factory=dict)
    topics: tuple[TopicSpec, ...] = ()


def _resolved_fields(fields: tuple[FieldSpec, ...], resolve: Resolve) -> tuple[FieldSpec, ...]:
    return tuple(FieldSpec(name, resolve(value)) for name, value in fields)


def _resolved_values(values: Mapping[str, str], resolve: Resolve) -> Mapping[str, str]:
    return {name: resolve(value) for name, value in values.items()}


def _resolved_roles(guarded: Guarded, resolve: Resolve) -> Guarded:
    return {guard: tuple(map(resolve, roles)) for guard, roles in guarded.items()}
