"""Everything that is wrong with the stored configuration, for the system checks; the compiler stops at the first error.

Environment variables that are not set are named too; their values are never shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _

from kafkaproxy.core.env import env_names, mask_env
from kafkaproxy.routing.clusters import client_options
from kafkaproxy.routing.compile import Compiler, ConfigurationError, resolve_deep
from kafkaproxy.routing.rules import Issue, Severity, validate_route
from kafkaproxy.routing.unreachable import HiddenRoute, shadowed_by_gateways, shadowed_entries, shadowed_routes
from kafkaproxy.specs.from_rows import ROUTE_ROWS, Rows, configuration_spec, read_rows
from kafkaproxy.specs.types import ClusterSpec, ConfigurationSpec, EntrySpec, GatewaySpec, RouteSpec

__all__ = ["review_configuration", "review_precedence"]


def review_configuration(environ: Mapping[str, str]) -> list[Issue]:
    """Read the enabled configuration and return what is wrong with it, each with ``where``, errors first."""
    rows = read_rows()
    spec = configuration_spec(rows)
    try:
        issues = list(_Review(spec, _ties(rows), environ).issues())
    except (ValueError, TypeError, AttributeError):  # such as a list where a mapping belongs: the compiler says where
        issues = []
    if not any(each.severity is Severity.ERROR for each in issues):
        issues += _uncompilable(spec)
    return sorted(issues, key=lambda each: each.severity)


def review_precedence() -> list[HiddenRoute]:
    """Read the enabled configuration and return the routes that the order of gateways hides."""
    return _hidden_routes(configuration_spec(read_rows()))


def _hidden_routes(spec: ConfigurationSpec) -> list[HiddenRoute]:
    if len(spec.gateways) < 2:
        return []
    return shadowed_by_gateways([_masked(each) for each in spec.gateways])


def _masked(gateway: GatewaySpec) -> GatewaySpec:
    entries = (
        replace(entry.resolved(mask_env), routes=tuple(route.resolved(mask_env) for route in entry.routes))
        for entry in gateway.entries
    )
    return replace(gateway, entries=tuple(entries))


class _AnyEnvironment(dict[str, str]):
    """An environment in which every variable is set, to its name."""

    def __missing__(self, name: str) -> str:
        return name


def _uncompilable(spec: ConfigurationSpec) -> Iterator[Issue]:
    try:
        Compiler(_AnyEnvironment()).compile(spec, version=0)
    except ConfigurationError as error:
        yield Issue(where=_("configuration"), field="", message=str(error), code="compile")


class _Seen:
    """Masks references, and collects the variables that are not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.missing: dict[str, None] = {}

    def __call__(self, text: str) -> str:
        self.missing.update((name, None) for name in env_names(text) if name not in self._environ)
        return mask_env(text)


_Ties = Mapping[str, Sequence[str]]
"""By entry (``gateway / entry``) and route, the kinds of rows of which several have the same position."""


class _Review:
    def __init__(self, spec: ConfigurationSpec, ties: _Ties, environ: Mapping[str, str]) -> None:
        self._spec = spec
        self._ties = ties
        self._environ = environ

    def issues(self) -> Iterator[Issue]:
        for cluster in self._spec.clusters.values():
            yield from self._cluster(cluster)
        for guard in self._spec.guards.values():
            seen = _Seen(self._environ)
            resolve_deep(guard.options, seen)
            yield from _missing(guard.name, seen)
        for gateway in self._spec.gateways:
            yield from self._gateway(gateway)
        for each in _hidden_routes(self._spec):
            yield replace(each.issue, where=f"{each.gateway} / {each.entry} / {each.issue.subject}")

    def _cluster(self, cluster: ClusterSpec) -> Iterator[Issue]:
        seen = _Seen(self._environ)
        try:
            client_options(cluster, seen)
        except (ValueError, AttributeError) as error:
            yield Issue(where=cluster.name, field="", message=str(error), code="compile")
        yield from _missing(cluster.name, seen)

    def _gateway(self, gateway: GatewaySpec) -> Iterator[Issue]:
        seen = _Seen(self._environ)
        entries = [entry.resolved(seen) for entry in gateway.entries]
        yield from _missing(gateway.name, seen)
        for issue in shadowed_entries(entries):
            yield replace(issue, where=f"{gateway.name} / {issue.subject}")
        for entry in entries:
            yield from self._entry(f"{gateway.name} / {entry.name}", entry)

    def _entry(self, where: str, entry: EntrySpec) -> Iterator[Issue]:
        yield from self._tied(where)
        routes: list[RouteSpec] = []
        for route in entry.routes:
            seen = _Seen(self._environ)
            routes.append(route.resolved(seen))
            yield from self._route(f"{where} / {route.name}", routes[-1], seen)
        for issue in shadowed_routes(routes):
            yield replace(issue, where=f"{where} / {issue.subject}")

    def _route(self, where: str, route: RouteSpec, seen: _Seen) -> Iterator[Issue]:
        yield from _missing(where, seen)
        yield from (replace(issue, where=where) for issue in validate_route(route, guards=self._spec.guards))
        yield from self._tied(where)

    def _tied(self, where: str) -> Iterator[Issue]:
        """Warn of rows with the same position: fixtures with natural keys would confuse them."""
        for name in self._ties.get(where, ()):
            message = _("Several of these have the same position: give each its own.")
            yield Issue(where=where, field=name, message=message, code="position", severity=Severity.WARNING)


def _ties(rows: Rows) -> _Ties:
    ties: dict[str, list[str]] = {}
    for gateway in rows.gateways:
        for entry in rows.entries.get(gateway.pk, ()):
            where = f"{gateway.name} / {entry.name}"
            ties[where] = ["conditions"] if _is_tied(rows.entry_conditions.get(entry.pk, ())) else []
            for route in rows.routes.get(entry.pk, ()):
                ties[f"{where} / {route.name}"] = [
                    name for name in ROUTE_ROWS if _is_tied(getattr(rows, name).get(route.id, ()))
                ]
    return ties


def _is_tied(rows: Sequence[Any]) -> bool:
    places = Counter((getattr(row, "level", 0), row.position) for row in rows)
    return any(count > 1 for count in places.values())


def _missing(where: str, seen: _Seen) -> Iterator[Issue]:
    for name in seen.missing:
        message = _("The environment variable %(name)s is not set: set it where the server and the worker run.")
        yield Issue(where=where, field="", message=message % {"name": name}, code="env", severity=Severity.WARNING)
