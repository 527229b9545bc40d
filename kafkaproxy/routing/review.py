"""Everything that is wrong with the stored configuration at once, for people: the compiler stops at the first error.

System checks show it; whatever the environment lacks is told too, by name and never by value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from kafkaproxy import models
from kafkaproxy.core.env import env_names, mask_env
from kafkaproxy.routing.clusters import client_options
from kafkaproxy.routing.compile import Compiler, ConfigurationError, resolve_deep
from kafkaproxy.routing.precedence import GatewayText, HiddenRoute, shadowed_by_gateways
from kafkaproxy.routing.rows import Rows, entry_text, read_rows, route_text
from kafkaproxy.routing.rules import shadowed_entries, shadowed_routes, validate_route
from kafkaproxy.routing.texts import EntryText, Issue, RouteText, Severity

__all__ = ["Finding", "review_configuration", "review_precedence"]


@dataclass(frozen=True, slots=True)
class Finding:
    """An issue, and which row has it: ``gateway / entry / route``."""

    where: str
    issue: Issue


def review_configuration(environ: Mapping[str, str]) -> list[Finding]:
    """Read the enabled configuration and return what is wrong with it, errors first."""
    rows = read_rows()
    try:
        findings = list(_Review(rows, environ).findings())
    except (ValueError, TypeError, AttributeError):  # such as a list where a mapping belongs: the compiler says where
        findings = []
    if not any(each.issue.severity is Severity.ERROR for each in findings):
        findings += _uncompilable(rows)
    return sorted(findings, key=lambda each: each.issue.severity)


def review_precedence() -> list[HiddenRoute]:
    """Read the enabled configuration and return the routes that the order of gateways hides."""
    return _hidden_routes(read_rows())


def _hidden_routes(rows: Rows) -> list[HiddenRoute]:
    if len(rows.gateways) < 2:
        return []
    return shadowed_by_gateways([GatewayText(each.name, _entries(rows, each)) for each in rows.gateways])


def _entries(rows: Rows, gateway: models.Gateway) -> list[tuple[EntryText, list[RouteText]]]:
    return [
        (entry_text(rows, entry, mask_env), [route_text(rows, route, mask_env) for route in rows.routes.get(entry.pk, [])])
        for entry in rows.entries.get(gateway.pk, [])
    ]


class _AnyEnvironment(dict[str, str]):
    """An environment in which every variable is set, to its name."""

    def __missing__(self, name: str) -> str:
        return name


def _uncompilable(rows: Rows) -> Iterator[Finding]:
    try:
        Compiler(_AnyEnvironment()).compile(rows, version=0)
    except ConfigurationError as error:
        yield Finding(_("configuration"), Issue(field="", message=str(error), code="compile"))


class _Seen:
    """Resolves nothing, and takes down which variables are missing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.missing: dict[str, None] = {}

    def __call__(self, text: str) -> str:
        self.missing.update((name, None) for name in env_names(text) if name not in self._environ)
        return mask_env(text)


class _Review:
    def __init__(self, rows: Rows, environ: Mapping[str, str]) -> None:
        self._rows = rows
        self._environ = environ
        self._guards = {guard.name for guard in rows.guards.values()}

    def findings(self) -> Iterator[Finding]:
        for cluster in self._rows.clusters.values():
            yield from self._cluster(cluster)
        for guard in self._rows.guards.values():
            seen = _Seen(self._environ)
            resolve_deep(guard.options, seen)
            yield from _missing(guard.name, seen)
        for gateway in self._rows.gateways:
            yield from self._gateway(gateway)
        for each in _hidden_routes(self._rows):
            yield Finding(f"{each.gateway} / {each.entry} / {each.issue.subject}", each.issue)

    def _cluster(self, cluster: models.Cluster) -> Iterator[Finding]:
        seen = _Seen(self._environ)
        try:
            client_options(cluster, seen)
        except (ValueError, AttributeError) as error:
            yield Finding(cluster.name, Issue(field="", message=str(error), code="compile"))
        yield from _missing(cluster.name, seen)

    def _gateway(self, gateway: models.Gateway) -> Iterator[Finding]:
        entries = self._rows.entries.get(gateway.pk, [])
        seen = _Seen(self._environ)
        texts = [entry_text(self._rows, entry, seen) for entry in entries]
        yield from _missing(gateway.name, seen)
        for issue in shadowed_entries(texts):
            yield Finding(f"{gateway.name} / {issue.subject}", issue)
        for entry in entries:
            where = f"{gateway.name} / {entry.name}"
            yield from _tied(where, "conditions", self._rows.entry_conditions.get(entry.pk, []))
            yield from self._routes(where, self._rows.routes.get(entry.pk, []))

    def _routes(self, entry: str, routes: Sequence[models.Route]) -> Iterator[Finding]:
        texts = []
        for route in routes:
            where = f"{entry} / {route.name}"
            seen = _Seen(self._environ)
            text = route_text(self._rows, route, seen)
            texts.append(text)
            yield from _missing(where, seen)
            yield from (Finding(where, issue) for issue in validate_route(text, guards=self._guards))
            yield from self._tied_rows(where, route)
        for issue in shadowed_routes(texts):
            yield Finding(f"{entry} / {issue.subject}", issue)

    def _tied_rows(self, where: str, route: models.Route) -> Iterator[Finding]:
        for name in ("conditions", "overrides", "filters", "async_fields"):
            yield from _tied(where, name, getattr(self._rows, name).get(route.id, []))


Placed = models.EntryCondition | models.Condition | models.Override | models.Filter | models.AsyncField


def _tied(where: str, name: str, rows: Iterable[Placed]) -> Iterator[Finding]:
    """Rows at the same place: fixtures with natural keys would take the one for the other."""
    places = Counter((getattr(row, "level", 0), row.position) for row in rows)
    if any(count > 1 for count in places.values()):
        message = _("Several of these have the same position: give each its own.")
        yield Finding(where, Issue(field=name, message=message, code="position", severity=Severity.WARNING))


def _missing(where: str, seen: _Seen) -> Iterator[Finding]:
    for name in seen.missing:
        message = _("The environment variable %(name)s is not set: set it where the server and the worker run.")
        yield Finding(where, Issue(field="", message=message % {"name": name}, code="env", severity=Severity.WARNING))
