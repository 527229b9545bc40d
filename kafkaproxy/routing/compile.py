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
from kafkaproxy.core.env import MissingVariable, resolve_env
from kafkaproxy.core.expressions import Place, Template
from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.models.version import Stamp
from kafkaproxy.routing import table
from kafkaproxy.routing.clusters import compile_clusters, compile_topics
from kafkaproxy.routing.polling import poll_template
from kafkaproxy.routing.rows import Resolve, Rows, entry_text, read_rows, route_text
from kafkaproxy.routing.rules import validate_route
from kafkaproxy.routing.texts import EntryConditionText, FilterText, Severity
from kafkaproxy.worker.types import Acks

__all__ = ["ConfigurationError", "compile_rows", "load_configuration", "load_stamped"]

log = logging.getLogger("kafkaproxy.routing")

_ATTEMPTS: Final = 5


class ConfigurationError(Exception):
    """The configuration cannot be compiled; the message names what is wrong, by gateway, entry and route."""


def load_configuration() -> table.Configuration:
    """Read and compile the configuration; raise :class:`ConfigurationError` where it cannot be served.

    The number of queries does not depend on the number of rows. What a concurrent transaction changes is seen whole or not at
    all.
    """
    return load_stamped()[0]


def load_stamped() -> tuple[table.Configuration, Stamp]:
    """Return the configuration with the stamp of the version that it was read at."""
    for _attempt in range(_ATTEMPTS):
        before = models.ConfigVersion.stamp()
        rows = read_rows()
        if models.ConfigVersion.stamp() == before:
            return compile_rows(rows, before.version, os.environ), before
    raise ConfigurationError("The configuration changed all the while it was read. It is tried again.")


def compile_rows(rows: Rows, version: int, environ: Mapping[str, str]) -> table.Configuration:
    """Compile what was read."""

    def resolve(text: str) -> str:
        return resolve_env(text, environ) if "${{" in text else text

    guards = _compile_guards(rows, resolve)
    gateways = tuple(_compile_gateway(rows, row, guards, resolve) for row in rows.gateways)
    with _blamed_on("topics"):
        topics = compile_topics(rows, gateways, resolve)
    return table.Configuration(
        version=version,
        gateways=gateways,
        guards=guards,
        clusters=compile_clusters(rows, gateways, topics, resolve),
        topics=topics,
    )


@contextmanager
def _blamed_on(*names: str) -> Iterator[None]:
    """Say where it is, of an error that says what is wrong. Only what no form would save gets here."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigurationError(f"{' / '.join(names)}: {error}") from error


def _compile_guards(rows: Rows, resolve: Resolve) -> Mapping[str, table.GuardConfig]:
    """Compile the guards. One whose variables are missing is left out: an unknown guard refuses."""
    guards: dict[str, table.GuardConfig] = {}
    for row in rows.guards.values():
        try:
            options = _resolve_deep(row.options, resolve)
        except MissingVariable as error:
            log.error("guard_unusable guard=%s error=%s", row.name, error)
        else:
            guards[row.name] = table.GuardConfig(name=row.name, kind=row.kind, options=options)
    return MappingProxyType(guards)


def _resolve_deep(value: Any, resolve: Resolve) -> Any:
    match value:
        case str():
            return resolve(value)
        case dict():
            return {name: _resolve_deep(each, resolve) for name, each in value.items()}
        case list():
            return [_resolve_deep(each, resolve) for each in value]
        case _:
            return value


def _compile_gateway(rows: Rows, row: models.Gateway, guards: Collection[str], resolve: Resolve) -> table.Gateway:
    entries = tuple(_compile_entry(rows, row, entry, guards, resolve) for entry in rows.entries.get(row.pk, ()))
    with _blamed_on(row.name):
        return table.Gateway(
            name=row.name,
            entries=entries,
            cluster=rows.clusters[row.cluster_id].name,
            idempotency_header=row.idempotency_header.lower().encode(),
            reply_to_header=row.reply_to_header,
            correlation_header=row.correlation_header,
            forwarded_fields=_field_names(row.forwarded_fields) or None,
            dropped_fields=_field_names(row.dropped_fields),
            forward_credentials=row.forward_credentials,
            credentials=_compile_credentials(rows, row, resolve),
            access_control=_compile_access_control(rows, row, resolve),
        )


def _field_names(names: Sequence[str] | None) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in names or ())


def _compile_credentials(rows: Rows, row: models.Gateway, resolve: Resolve) -> table.Credentials | None:
    if row.guard_id is None:
        return None
    headers = {name.lower(): value for name, value in row.credentials_headers.items()}
    return table.Credentials(
        guard=rows.guards[row.guard_id].name,
        cookies=MappingProxyType(_resolve_deep(row.credentials_cookies, resolve)),
        headers=MappingProxyType(_resolve_deep(headers, resolve)),
        query=MappingProxyType(_resolve_deep(row.credentials_query, resolve)),
    )


def _compile_access_control(rows: Rows, gateway: models.Gateway, resolve: Resolve) -> table.AccessControl | None:
    for row in rows.access_controls.get(gateway.pk, ()):

        def some(texts: list[str] | None, fold: Resolve = str) -> frozenset[str] | None:
            return frozenset(fold(resolve(text)) for text in texts) if texts else None

        return table.AccessControl(
            policy=row.policy,
            allow_origins=some(row.allow_origins),
            allow_methods=some(row.allow_methods),
            allow_headers=some(row.allow_headers, str.lower),
            allow_credentials=row.allow_credentials,
            max_age=row.max_age,
            expose_headers=some(row.expose_headers, str.lower),
        )
    return None


def _compile_entry(
    rows: Rows, gateway: models.Gateway, row: models.Entry, guards: Collection[str], resolve: Resolve
) -> table.Entry:
    with _blamed_on(gateway.name, row.name):
        text = entry_text(rows, row, resolve)
        levels: dict[int, list[table.EntryCondition]] = {}
        for condition in text.conditions:
            levels.setdefault(condition.level, []).append(_compile_entry_condition(condition))
    routes = []
    for route in rows.routes.get(row.pk, ()):
        with _blamed_on(gateway.name, row.name, route.name):
            routes.append(_compile_route(rows, gateway, route, guards, resolve))
    return table.Entry(
        name=row.name,
        levels=tuple(tuple(levels[level]) for level in sorted(levels)),
        guarded=_requirements(text.guarded),
        routes=tuple(routes),
    )


def _compile_entry_condition(text: EntryConditionText) -> table.EntryCondition:
    return table.EntryCondition(
        scheme=_pattern(text.scheme),
        authority=_pattern(text.authority),
        path=_pattern(text.path),
        method=_method(text.method),
        headers=tuple((name.lower().encode(), PathTemplate.parse(value)) for name, value in text.headers.items()),
    )


def _compile_route(
    rows: Rows, gateway: models.Gateway, row: models.Route, guards: Collection[str], resolve: Resolve
) -> table.Route:
    text = route_text(rows, row, resolve)
    for issue in validate_route(text):
        if issue.severity is Severity.ERROR:
            raise ValueError(issue.message)
    start = row.start_timestamp
    route = table.Route(
        name=row.name,
        capability=table.Capability(row.capability),
        cluster=rows.clusters[row.cluster_id or gateway.cluster_id].name,
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
        filters=tuple(_compile_filter(each) for each in text.filters),
        cache_control=row.cache_control or "no-cache",
        event_id_key=row.event_id == models.Route.EventId.KEY_AND_ETAG,
        start=row.start,
        start_timestamp=None if start is None else round(start.timestamp() * 1000),
        base64=row.encoding == models.Route.Encoding.BASE64,
    )
    return _closed(route, guards)


def _closed(route: table.Route, guards: Collection[str]) -> table.Route:
    """Require the guards that the route reads and nobody defines: such a guard refuses, so no empty identity gets through."""
    unknown = sorted(route.guard_names.difference(guards, (each.guard for each in route.guarded)))
    if not unknown:
        return route
    requirements = tuple(table.GuardRequirement(guard=name, roles=frozenset()) for name in unknown)
    return dataclasses.replace(route, guarded=route.guarded + requirements)


def _compile_filter(text: FilterText) -> table.Filter:
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
