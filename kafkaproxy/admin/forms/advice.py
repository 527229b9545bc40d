"""Warnings about changed rows: rules that are never reached, issues that the rules find, and topics that no route names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from django.db.models import Q
from django.utils.translation import gettext as _

from kafkaproxy.admin.forms.drafts import ENTRY_PREFETCH, ROUTE_PREFETCH, draft_entry, draft_route
from kafkaproxy.core.env import env_names
from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.models import Cluster, Entry, Gateway, Route, Topic
from kafkaproxy.routing.review import review_precedence
from kafkaproxy.routing.rules import Issue, Severity, validate_route
from kafkaproxy.routing.unreachable import shadowed_entries, shadowed_routes

__all__ = ["entry_issues", "fixed_topics", "hidden_entries", "hidden_routes", "route_warnings", "unused_topics"]


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
    """Return the warnings of the rules about these routes and the order of their entries."""
    for route in Route.objects.filter(pk__in=[route.pk for route in changed]).prefetch_related(*ROUTE_PREFETCH):
        for issue in validate_route(draft_route(route)):
            if issue.severity is Severity.WARNING:
                yield _named(_("Route “%(name)s”: %(message)s"), route.name, issue.message)
    yield from hidden_routes(Entry.objects.filter(pk__in={route.entry_id for route in changed}))
    yield from _hidden_by_order(set(Gateway.objects.filter(entries__routes__in=changed).values_list("name", flat=True)))


def _named(text: str, name: str, message: str) -> str:
    return text % {"name": name, "message": message}


def unused_topics(topics: Iterable[Topic]) -> Iterator[str]:
    """Warn of each row that tunes a topic which no route names: most often its name is misspelt."""
    named: dict[int, list[re.Pattern[str]]] = {}
    for topic in topics:
        if topic.cluster_id not in named:
            named[topic.cluster_id] = _named_in(topic.cluster)
        if not topic.bootstrap and not any(pattern.fullmatch(topic.name) for pattern in named[topic.cluster_id]):
            message = _("No route names the topic “%(topic)s” of %(cluster)s: check its spelling, or keep it for later.")
            yield message % {"topic": topic.name, "cluster": topic.cluster}


def fixed_topics(cluster: Cluster) -> set[str]:
    """Return the topics that rows or routes name without a variable part."""
    texts = {*_texts(cluster), *cluster.topics.values_list("name", flat=True)}
    return {text for text in texts if "$" not in text}


def _named_in(cluster: Cluster) -> list[re.Pattern[str]]:
    return [_pattern(text) for text in _texts(cluster)]


def _texts(cluster: Cluster) -> set[str]:
    own = Q(cluster=cluster) | Q(cluster=None, entry__gateway__cluster=cluster)
    pairs = Route.objects.filter(own).order_by().values_list("topic", "reply_to").distinct()
    return {text for pair in pairs for text in pair if text}


def _pattern(text: str) -> re.Pattern[str]:
    """Return what the template can become; an environment variable may become anything."""
    try:
        parts = Template.parse(text, TemplatePlace.TOPIC).parts
    except TemplateError:
        parts = (text,)
    if env_names(text):
        return re.compile(".*")
    return re.compile("".join(re.escape(part) if isinstance(part, str) else ".+" for part in parts))
