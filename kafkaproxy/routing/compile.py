"""From specs to the table: read everything at one version, resolve ``${{env.NAME}}``, parse, check."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from kafkaproxy.conf import csrf_field
from kafkaproxy.core.env import MissingVariable, resolve_env
from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.fields import CREDENTIAL_FIELDS
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.models.version import ConfigVersion, Stamp
from kafkaproxy.routing import table
from kafkaproxy.routing.clusters import compile_clusters, compile_topics
from kafkaproxy.routing.polling import poll_template
from kafkaproxy.routing.rules import Severity, validate_route
from kafkaproxy.specs.from_rows import Rows, configuration_spec, read_rows
from kafkaproxy.specs.types import (
    AccessControlSpec,
    ConfigurationSpec,
    EntryConditionSpec,
    EntrySpec,
    FilterSpec,
    GatewaySpec,
    Guarded,
    GuardSpec,
    Resolve,
    RouteSpec,
)
from kafkaproxy.worker.types import Acks

__all__ = ["Compiler", "ConfigurationError", "load_configuration", "read_unchanged"]

log = logging.getLogger("kafkaproxy.routing")

_ATTEMPTS: Final = 5

_Known = dict[tuple[str, str, str], tuple[str, RouteSpec, table.Route]]
"""Compiled routes by gateway, entry and route name, each with the cluster and the spec that it was compiled from."""


class ConfigurationError(Exception):
    """The configuration cannot be compiled; the message names what is wrong, by gateway, entry and route."""


def load_configuration() -> table.Configuration:
    """Read and compile the configuration; raise :class:`ConfigurationError` where it cannot be served.

    The number of queries does not depend on the number of rows. What a concurrent transaction changes is seen whole or not at
    all.
    """
    rows, stamp = read_unchanged()
    return Compiler().compile(configuration_spec(rows), stamp.version)


def read_unchanged() -> tuple[Rows, Stamp]:
    """Read everything at one version; raise :class:`ConfigurationError` where it changes all the while."""
    for _attempt in range(_ATTEMPTS):
        before = ConfigVersion.stamp()
        rows = read_rows()
        if ConfigVersion.stamp() == before:
            return rows, before
    raise ConfigurationError("The configuration changed all the while it was read. It is tried again.")


class Compiler:
    """Compiles again and again; a route that did not change is taken over from the last time. For one thread at a time."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._known: _Known = {}
        self._common: object = None

    def compile(self, spec: ConfigurationSpec, version: int) -> table.Configuration:
        """Compile what was read."""
        guards = _compile_guards(spec.guards.values(), self._resolve)
        common = (set(guards), dict(self._environ))
        known = self._known if common == self._common else {}
        run = _Run(resolve=self._resolve, guards=frozenset(guards), known=known)
        gateways = tuple(run.gateway(each) for each in spec.gateways)
        with _blamed_on("topics"):
            topics = compile_topics(spec.topics, gateways, self._resolve)
        clusters = compile_clusters(spec.clusters.values(), gateways, topics, self._resolve)
        self._known, self._common = run.compiled, common
        return table.Configuration(version=version, gateways=gateways, guards=guards, clusters=clusters, topics=topics)

    def _resolve(self, text: str) -> str:
        return resolve_env(text, self._environ) if "${{" in text else text


@contextmanager
def _blamed_on(*names: str) -> Iterator[None]:
    """Add the place to the message of an error. Only values that no form would have saved raise one."""
    try:
        yield
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{' / '.join(names)}: {error}") from error


def _compile_guards(specs: Iterable[GuardSpec], resolve: Resolve) -> Mapping[str, table.GuardConfig]:
    """Compile the guards. One whose variables are missing is left out: an unknown guard refuses."""
    guards: dict[str, table.GuardConfig] = {}
    for spec in specs:
        try:
            options = resolve_deep(spec.options, resolve)
        except MissingVariable as error:
            log.error("guard_unusable guard=%s error=%s", spec.name, error)
        else:
            guards[spec.name] = table.GuardConfig(name=spec.name, kind=spec.kind, options=options)
    return MappingProxyType(guards)


def resolve_deep(value: Any, resolve: Resolve) -> Any:
    """Resolve every text in a JSON value, names left alone."""
    match value:
        case str():
            return resolve(value)
        case dict():
            return {name: resolve_deep(each, resolve) for name, each in value.items()}
        case list():
            return [resolve_deep(each, resolve) for each in value]
        case _:
            return value


@dataclasses.dataclass(slots=True, kw_only=True)
class _Run:
    """One compilation."""

    resolve: Resolve
    guards: frozenset[str]
    known: _Known
    compiled: _Known = dataclasses.field(default_factory=dict)

    def gateway(self, spec: GatewaySpec) -> table.Gateway:
        entries = tuple(self.entry(spec, entry) for entry in spec.entries)
        with _blamed_on(spec.name):
            return table.Gateway(
                name=spec.name,
                entries=entries,
                cluster=spec.cluster,
                idempotency_header=spec.idempotency_header.lower().encode(),
                reply_to_header=spec.reply_to_header,
                correlation_header=spec.correlation_header,
                forwarded_fields=_field_names(spec.forwarded_fields) or None,
                dropped_fields=_field_names(spec.dropped_fields),
                forward_credentials=spec.forward_credentials,
                credential_fields=CREDENTIAL_FIELDS | {csrf_field().encode()},
                credentials=self.credentials(spec),
                access_control=None if spec.access_control is None else self.access_control(spec.access_control),
            )

    def credentials(self, spec: GatewaySpec) -> table.Credentials | None:
        if spec.guard is None:
            return None
        headers = {name.lower(): pattern for name, pattern in spec.credentials_headers.items()}
        return table.Credentials(
            guard=spec.guard,
            cookies=MappingProxyType(resolve_deep(spec.credentials_cookies, self.resolve)),
            headers=MappingProxyType(resolve_deep(headers, self.resolve)),
            query=MappingProxyType(resolve_deep(spec.credentials_query, self.resolve)),
        )

    def access_control(self, spec: AccessControlSpec) -> table.AccessControl:
        return table.AccessControl(
            policy=spec.policy,
            allow_origins=self._some(spec.allow_origins),
            allow_methods=self._some(spec.allow_methods),
            allow_headers=self._some(spec.allow_headers, str.lower),
            allow_credentials=spec.allow_credentials,
            max_age=spec.max_age,
            expose_headers=self._some(spec.expose_headers, str.lower),
        )

    def _some(self, texts: Iterable[str] | None, fold: Resolve = str) -> frozenset[str] | None:
        return frozenset(fold(self.resolve(text)) for text in texts) if texts else None

    def entry(self, gateway: GatewaySpec, spec: EntrySpec) -> table.Entry:
        with _blamed_on(gateway.name, spec.name):
            resolved = spec.resolved(self.resolve)
            levels: dict[int, list[table.EntryCondition]] = {}
            for condition in resolved.conditions:
                levels.setdefault(condition.level, []).append(_entry_condition(condition))
        routes = []
        for route in spec.routes:
            with _blamed_on(gateway.name, spec.name, route.name):
                routes.append(self.route(gateway, spec, route))
        return table.Entry(
            name=spec.name,
            levels=tuple(tuple(levels[level]) for level in sorted(levels)),
            guarded=_requirements(resolved.guarded),
            routes=tuple(routes),
        )

    def route(self, gateway: GatewaySpec, entry: EntrySpec, spec: RouteSpec) -> table.Route:
        key, cluster = (gateway.name, entry.name, spec.name), gateway.cluster_of(spec)
        known = self.known.get(key)
        route = known[2] if known is not None and known[:2] == (cluster, spec) else self._new_route(spec, cluster)
        self.compiled[key] = (cluster, spec, route)
        return route

    def _new_route(self, spec: RouteSpec, cluster: str) -> table.Route:
        resolved = spec.resolved(self.resolve)
        for issue in validate_route(resolved):
            if issue.severity is Severity.ERROR:
                raise ValueError(issue.message)
        return _closed(_route(resolved, cluster), self.guards)


def _field_names(names: Sequence[str] | None) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in names or ())


def _entry_condition(spec: EntryConditionSpec) -> table.EntryCondition:
    return table.EntryCondition(
        scheme=_pattern(spec.scheme),
        authority=_pattern(spec.authority),
        path=_pattern(spec.path),
        method=_method(spec.method),
        headers=tuple((name.lower().encode(), PathTemplate.parse(value)) for name, value in spec.headers.items()),
    )


def _route(spec: RouteSpec, cluster: str) -> table.Route:
    start = spec.start_timestamp
    return table.Route(
        name=spec.name,
        capability=table.Capability(spec.capability),
        cluster=cluster,
        topic=Template.parse(spec.topic, TemplatePlace.TOPIC),
        conditions=tuple(table.Condition(method=_method(each.method), path=_pattern(each.path)) for each in spec.conditions),
        guarded=_requirements(spec.guarded),
        key=None if spec.key is None else Template.parse(spec.key, TemplatePlace.KEY),
        acks=Acks(spec.acks),
        overrides=_templates(spec.overrides, TemplatePlace.OVERRIDE),
        reply_to=Template.parse(spec.reply_to, TemplatePlace.REPLY_TO) if spec.reply_to else None,
        correlation_header=spec.correlation_header,
        async_fields=_templates(spec.async_fields, TemplatePlace.ASYNC),
        async_location=poll_template(spec) if spec.async_fields else None,
        timeout=float(spec.timeout),
        merge=spec.merge,
        filters=tuple(_filter(each) for each in spec.filters),
        cache_control=spec.cache_control or "no-cache",
        event_id_key=spec.event_id == "key_and_etag",
        start=spec.start,
        start_timestamp=None if start is None else round(start.timestamp() * 1000),
        base64=spec.encoding == "base64",
    )


def _closed(route: table.Route, guards: Collection[str]) -> table.Route:
    """Require undefined guards that the route reads. Such a guard refuses, so an empty identity is never used."""
    unknown = sorted(route.guard_names.difference(guards, (each.guard for each in route.guarded)))
    if not unknown:
        return route
    requirements = tuple(table.GuardRequirement(guard=name, roles=frozenset()) for name in unknown)
    return dataclasses.replace(route, guarded=route.guarded + requirements)


def _filter(spec: FilterSpec) -> table.Filter:
    key = None if spec.key is None else Template.parse(spec.key, TemplatePlace.FILTER)
    return table.Filter(key=key, headers=_templates(spec.headers.items(), TemplatePlace.FILTER))


def _templates(texts: Iterable[tuple[str, str]], place: TemplatePlace) -> tuple[tuple[str, Template], ...]:
    return tuple((name, Template.parse(value, place)) for name, value in texts)


def _requirements(guarded: Guarded) -> tuple[table.GuardRequirement, ...]:
    return tuple(table.GuardRequirement(guard=name, roles=frozenset(roles)) for name, roles in guarded.items())


def _pattern(text: str) -> PathTemplate | None:
    return PathTemplate.parse(text) if text else None


def _method(method: str) -> str | None:
    return None if method in ("", "*") else method
