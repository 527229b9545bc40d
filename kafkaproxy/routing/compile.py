"""From the models to the table: read everything at one version, resolve ``${{env.NAME}}``, parse, check."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from kafkaproxy import models
from kafkaproxy.conf import csrf_field
from kafkaproxy.core.env import MissingVariable, resolve_env
from kafkaproxy.core.expressions import Place, Template
from kafkaproxy.core.fields import CREDENTIAL_FIELDS
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.models.version import Stamp
from kafkaproxy.routing import table
from kafkaproxy.routing.clusters import compile_clusters, compile_topics
from kafkaproxy.routing.polling import poll_template
from kafkaproxy.routing.rows import Resolve, Rows, entry_text, read_rows, route_text
from kafkaproxy.routing.rules import validate_route
from kafkaproxy.routing.texts import EntryConditionText, FilterText, RouteText, Severity
from kafkaproxy.worker.types import Acks

__all__ = ["Compiler", "ConfigurationError", "load_configuration", "read_unchanged"]

log = logging.getLogger("kafkaproxy.routing")

_ATTEMPTS: Final = 5

_Known = dict[int, tuple[object, table.Route]]
"""Compiled routes by their id, with the rows that they were compiled from."""


class ConfigurationError(Exception):
    """The configuration cannot be compiled; the message names what is wrong, by gateway, entry and route."""


def load_configuration() -> table.Configuration:
    """Read and compile the configuration; raise :class:`ConfigurationError` where it cannot be served.

    The number of queries does not depend on the number of rows. What a concurrent transaction changes is seen whole or not at
    all.
    """
    rows, stamp = read_unchanged()
    return Compiler().compile(rows, stamp.version)


def read_unchanged() -> tuple[Rows, Stamp]:
    """Read everything at one version; raise :class:`ConfigurationError` where it changes all the while."""
    for _attempt in range(_ATTEMPTS):
        before = models.ConfigVersion.stamp()
        rows = read_rows()
        if models.ConfigVersion.stamp() == before:
            return rows, before
    raise ConfigurationError("The configuration changed all the while it was read. It is tried again.")


class Compiler:
    """Compiles again and again; a route that did not change is taken over from the last time. For one thread at a time."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._known: _Known = {}
        self._common: object = None

    def compile(self, rows: Rows, version: int) -> table.Configuration:
        """Compile what was read."""
        guards = _compile_guards(rows, self._resolve)
        common = (set(guards), _names(rows.guards), _names(rows.clusters), dict(self._environ))
        known = self._known if common == self._common else {}
        run = _Run(rows=rows, resolve=self._resolve, guards=frozenset(guards), known=known)
        gateways = tuple(run.gateway(row) for row in rows.gateways)
        with _blamed_on("topics"):
            topics = compile_topics(rows, gateways, self._resolve)
        clusters = compile_clusters(rows, gateways, topics, self._resolve)
        self._known, self._common = run.compiled, common
        return table.Configuration(version=version, gateways=gateways, guards=guards, clusters=clusters, topics=topics)

    def _resolve(self, text: str) -> str:
        return resolve_env(text, self._environ) if "${{" in text else text


def _names(rows: Mapping[int, models.Guard | models.Cluster]) -> dict[int, str]:
    return {pk: row.name for pk, row in rows.items()}


@contextmanager
def _blamed_on(*names: str) -> Iterator[None]:
    """Say where it is, of an error that says what is wrong. Only what no form would save gets here."""
    try:
        yield
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{' / '.join(names)}: {error}") from error


def _compile_guards(rows: Rows, resolve: Resolve) -> Mapping[str, table.GuardConfig]:
    """Compile the guards. One whose variables are missing is left out: an unknown guard refuses."""
    guards: dict[str, table.GuardConfig] = {}
    for row in rows.guards.values():
        try:
            options = resolve_deep(row.options, resolve)
        except MissingVariable as error:
            log.error("guard_unusable guard=%s error=%s", row.name, error)
        else:
            guards[row.name] = table.GuardConfig(name=row.name, kind=row.kind, options=options)
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

    rows: Rows
    resolve: Resolve
    guards: frozenset[str]
    known: _Known
    compiled: _Known = dataclasses.field(default_factory=dict)

    def gateway(self, row: models.Gateway) -> table.Gateway:
        entries = tuple(self.entry(row, entry) for entry in self.rows.entries.get(row.pk, ()))
        with _blamed_on(row.name):
            return table.Gateway(
                name=row.name,
                entries=entries,
                cluster=self.rows.clusters[row.cluster_id].name,
                idempotency_header=row.idempotency_header.lower().encode(),
                reply_to_header=row.reply_to_header,
                correlation_header=row.correlation_header,
                forwarded_fields=_field_names(row.forwarded_fields) or None,
                dropped_fields=_field_names(row.dropped_fields),
                forward_credentials=row.forward_credentials,
                credential_fields=CREDENTIAL_FIELDS | {csrf_field().encode()},
                credentials=self.credentials(row),
                access_control=self.access_control(row),
            )

    def credentials(self, row: models.Gateway) -> table.Credentials | None:
        if row.guard_id is None:
            return None
        headers = {name.lower(): pattern for name, pattern in row.credentials_headers.items()}
        return table.Credentials(
            guard=self.rows.guards[row.guard_id].name,
            cookies=MappingProxyType(resolve_deep(row.credentials_cookies, self.resolve)),
            headers=MappingProxyType(resolve_deep(headers, self.resolve)),
            query=MappingProxyType(resolve_deep(row.credentials_query, self.resolve)),
        )

    def access_control(self, gateway: models.Gateway) -> table.AccessControl | None:
        row = next(iter(self.rows.access_controls.get(gateway.pk, ())), None)
        if row is None:
            return None
        return table.AccessControl(
            policy=row.policy,
            allow_origins=self._some(row.allow_origins),
            allow_methods=self._some(row.allow_methods),
            allow_headers=self._some(row.allow_headers, str.lower),
            allow_credentials=row.allow_credentials,
            max_age=row.max_age,
            expose_headers=self._some(row.expose_headers, str.lower),
        )

    def _some(self, texts: list[str] | None, fold: Resolve = str) -> frozenset[str] | None:
        return frozenset(fold(self.resolve(text)) for text in texts) if texts else None

    def entry(self, gateway: models.Gateway, row: models.Entry) -> table.Entry:
        with _blamed_on(gateway.name, row.name):
            text = entry_text(self.rows, row, self.resolve)
            levels: dict[int, list[table.EntryCondition]] = {}
            for condition in text.conditions:
                levels.setdefault(condition.level, []).append(_entry_condition(condition))
        routes = []
        for route in self.rows.routes.get(row.pk, ()):
            with _blamed_on(gateway.name, row.name, route.name):
                routes.append(self.route(gateway, route))
        return table.Entry(
            name=row.name,
            levels=tuple(tuple(levels[level]) for level in sorted(levels)),
            guarded=_requirements(text.guarded),
            routes=tuple(routes),
        )

    def route(self, gateway: models.Gateway, row: models.Route) -> table.Route:
        cluster = row.cluster_id or gateway.cluster_id
        source = (cluster, self.rows.of_route(row))
        known = self.known.get(row.id)
        route = known[1] if known is not None and known[0] == source else self._new_route(row, cluster)
        self.compiled[row.id] = (source, route)
        return route

    def _new_route(self, row: models.Route, cluster: int) -> table.Route:
        text = route_text(self.rows, row, self.resolve)
        for issue in validate_route(text):
            if issue.severity is Severity.ERROR:
                raise ValueError(issue.message)
        return _closed(_route(row, text, self.rows.clusters[cluster].name), self.guards)


def _field_names(names: Sequence[str] | None) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in names or ())


def _entry_condition(text: EntryConditionText) -> table.EntryCondition:
    return table.EntryCondition(
        scheme=_pattern(text.scheme),
        authority=_pattern(text.authority),
        path=_pattern(text.path),
        method=_method(text.method),
        headers=tuple((name.lower().encode(), PathTemplate.parse(value)) for name, value in text.headers.items()),
    )


def _route(row: models.Route, text: RouteText, cluster: str) -> table.Route:
    start = row.start_timestamp
    return table.Route(
        name=row.name,
        capability=table.Capability(row.capability),
        cluster=cluster,
        topic=Template.parse(text.topic, Place.TOPIC),
        conditions=tuple(table.Condition(method=_method(each.method), path=_pattern(each.path)) for each in text.conditions),
        guarded=_requirements(text.guarded),
        key=None if text.key is None else Template.parse(text.key, Place.KEY),
        acks=Acks(row.acks),
        overrides=_templates(text.overrides, Place.OVERRIDE),
        reply_to=Template.parse(text.reply_to, Place.REPLY_TO) if text.reply_to else None,
        correlation_header=row.correlation_header,
        async_fields=_templates(text.async_fields, Place.ASYNC),
        async_location=poll_template(text) if text.async_fields else None,
        timeout=float(row.timeout),
        merge=row.merge,
        filters=tuple(_filter(each) for each in text.filters),
        cache_control=row.cache_control or "no-cache",
        event_id_key=row.event_id == models.Route.EventId.KEY_AND_ETAG,
        start=row.start,
        start_timestamp=None if start is None else round(start.timestamp() * 1000),
        base64=row.encoding == models.Route.Encoding.BASE64,
    )


def _closed(route: table.Route, guards: Collection[str]) -> table.Route:
    """Require the guards that the route reads and nobody defines: such a guard refuses, so no empty identity gets through."""
    unknown = sorted(route.guard_names.difference(guards, (each.guard for each in route.guarded)))
    if not unknown:
        return route
    requirements = tuple(table.GuardRequirement(guard=name, roles=frozenset()) for name in unknown)
    return dataclasses.replace(route, guarded=route.guarded + requirements)


def _filter(text: FilterText) -> table.Filter:
    key = None if text.key is None else Template.parse(text.key, Place.FILTER)
    return table.Filter(key=key, headers=_templates(text.headers.items(), Place.FILTER))


def _templates(texts: Iterable[tuple[str, str]], place: Place) -> tuple[tuple[str, Template], ...]:
    return tuple((name, Template.parse(value, place)) for name, value in texts)


def _requirements(guarded: Mapping[str, Collection[str]]) -> tuple[table.GuardRequirement, ...]:
    return tuple(table.GuardRequirement(guard=name, roles=frozenset(roles)) for name, roles in guarded.items())


def _pattern(text: str) -> PathTemplate | None:
    return PathTemplate.parse(text) if text else None


def _method(method: str) -> str | None:
    return None if method in ("", "*") else method
