"""Warnings about what was changed: rules that are never reached, and what else the rules find."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from django.utils.translation import gettext as _

from kafkaproxy.admin.drafts import ENTRY_PREFETCH, ROUTE_PREFETCH, draft_entry, draft_route
from kafkaproxy.models import Entry, Gateway, Route
from kafkaproxy.routing.issues import Issue, Severity
from kafkaproxy.routing.review import review_precedence
from kafkaproxy.routing.rules import shadowed_entries, shadowed_routes, validate_route

__all__ = ["entry_issues", "hidden_entries", "hidden_routes", "route_warnings"]


def hidden_entries(gateways: Iterable[Gateway]) -> Iterator[str]:
    """Warn of the entries of these gateways that are never reached, and of routes that the order of gateways hides."""
    gateways = list(gateways)
    for gateway in gateways:
        for issue in entry_issues(gateway.entries.prefetch_related(*ENTRY_PREFETCH)):
            yield _named(_("Entry “%(name)s”: %(message)s"), issue.subject, issue.message)
    yield from _hidden_by_order({gateway.name for gateway in gateways})


def _hidden_by_order(names: Collection[str]) -> Iterator[str]:
    """Warn of routes that these gateways hide from later ones, or that earlier ones hide from these."""
    for each in review_precedence():
        if each.gateway in names or each.by in names:
            route = f"{each.gateway} / {each.entry} / {each.issue.subject}"
            yield _named(_("Route “%(name)s”: %(message)s"), route, each.issue.message)


def entry_issues(entries: Iterable[Entry]) -> list[Issue]:
    """Return a warning for each of a gateway's entries, in order, that an earlier one hides."""
    return shadowed_entries([draft_entry(entry) for entry in entries if entry.enabled])


def hidden_routes(entries: Iterable[Entry]) -> Iterator[str]:
    """Warn of the routes of these entries that are never reached."""
    for entry in entries:
        routes = entry.routes.filter(enabled=True).prefetch_related(*ROUTE_PREFETCH)
        for issue in shadowed_routes([draft_route(route) for route in routes]):
            yield _named(_("Route “%(name)s”: %(message)s"), issue.subject, issue.message)


def route_warnings(changed: Sequence[Route]) -> Iterator[str]:
    """Warn of what the rules find odd in these routes and in the order of their entries."""
    for route in Route.objects.filter(pk__in=[route.pk for route in changed]).prefetch_related(*ROUTE_PREFETCH):
        for issue in validate_route(draft_route(route)):
            if issue.severity is Severity.WARNING:
                yield _named(_("Route “%(name)s”: %(message)s"), route.name, issue.message)
    yield from hidden_routes(Entry.objects.filter(pk__in={route.entry_id for route in changed}))
    yield from _hidden_by_order(set(Gateway.objects.filter(entries__routes__in=changed).values_list("name", flat=True)))


def _named(text: str, name: str, message: str) -> str:
    return text % {"name": name, "message": message}
