"""Topics: what this host's store holds of each, how far it is behind, and its last records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from kafkaproxy.admin.forms.advice import fixed_topics
from kafkaproxy.admin.forms.generic import ModelAdmin
from kafkaproxy.admin.pages.base import page_context
from kafkaproxy.admin.pages.topic_records import Tail, read_tail, show_record
from kafkaproxy.admin.pages.topic_store import ask_kafka, held, last_records, opened_store, partitions, reader_config
from kafkaproxy.conf import get_settings
from kafkaproxy.core.env import MissingVariable, resolve_env
from kafkaproxy.models import Cluster, Topic
from kafkaproxy.worker.store.reader import Store, TopicState

__all__ = ["BrowseMixin", "is_sensitive", "may_browse"]

_RECORDS: Final = 50
_MOST_TOPICS: Final = 500
PERMISSION: Final = "kafkaproxy.browse_topic"


def may_browse(request: HttpRequest) -> bool:
    """Return True if the user may see the records of topics."""
    return bool(request.user.has_perm(PERMISSION))


def is_sensitive(cluster: str, topic: str) -> bool:
    """Return True if the records of a topic are never shown, or if that is not known."""
    for row in Topic.objects.filter(cluster__name=cluster, sensitive=True):
        try:
            if resolve_env(row.name, os.environ) == topic:
                return True
        except MissingVariable:
            return True
    return False


class BrowseMixin(ModelAdmin):
    """Adds the pages to the admin of clusters."""

    def get_urls(self) -> list[URLPattern]:
        """Add the list of a cluster's topics, and the page of each."""
        own = [
            path("<int:pk>/topics/", self.admin_site.admin_view(self.topics_view), name="kafkaproxy_cluster_topics"),
            path("<int:pk>/topics/<path:name>/", self.admin_site.admin_view(self.topic_view), name="kafkaproxy_cluster_topic"),
        ]
        return [*own, *super().get_urls()]

    def topics_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """List the topics that the store holds, and those that rows or routes name."""
        cluster = self._cluster(request, pk)
        with opened_store(cluster.name) as (store, writer):
            states = {} if store is None else store.topics()
            shown = sorted(states.values(), key=lambda state: state.name)[:_MOST_TOPICS]
            said = ask_kafka(cluster, shown)
            rows = [] if store is None else [(state, _total(partitions(store, state, said, {}))) for state in shown]
        absent = [(each, is_sensitive(cluster.name, each)) for each in sorted(fixed_topics(cluster) - states.keys())]
        context = {"rows": rows, "absent": absent, "left_out": len(states) - len(shown), "kafka_error": said.error}
        title = _("Topics of %(cluster)s") % {"cluster": cluster}
        return self._page(request, "topics", title, cluster, context | _where(cluster, store, writer))

    def topic_view(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        """Show one topic."""
        cluster = self._cluster(request, pk)
        sensitive = is_sensitive(cluster.name, name)
        given = request.GET.get("key", "")
        context: dict[str, Any] = {"name": name, "sensitive": sensitive, "given_key": given}
        with opened_store(cluster.name) as (store, writer):
            state = None if store is None else store.topics().get(name)
            if store is not None and state is not None:
                context |= _topic(store, state, cluster)
                if not sensitive:
                    context |= _records(store, state, given)
        if state is None and not sensitive and name in fixed_topics(cluster):
            context |= _tail(cluster, name)
        return self._page(request, "topic", name, cluster, context | _where(cluster, store, writer))

    def _cluster(self, request: HttpRequest, pk: int) -> Cluster:
        if not may_browse(request):
            raise PermissionDenied
        return get_object_or_404(Cluster, pk=pk)

    def _page(self, request: HttpRequest, page: str, title: str, cluster: Cluster, context: dict[str, Any]) -> TemplateResponse:
        shared = {**page_context(self, request, title), "cluster": cluster}
        return TemplateResponse(request, f"admin/kafkaproxy/{page}.html", shared | context)


def _where(cluster: Cluster, store: Store | None, writer: int | None) -> dict[str, Any]:
    return {"folder": get_settings().store_dir / cluster.name, "has_store": store is not None, "writer": writer}


def _total(rows: Iterable[Any]) -> int | None:
    """Return the lag of a topic; None where that of a partition is not known."""
    lags = [row.lag for row in rows]
    return None if not lags or None in lags else sum(lags)


def _topic(store: Store, state: TopicState, cluster: Cluster) -> dict[str, Any]:
    said = ask_kafka(cluster, [state])
    counted, complete = held(store, state)
    rows = partitions(store, state, said, counted)
    return {"state": state, "rows": rows, "kafka_error": said.error, "all_counted": complete, "lag": _total(rows)}


def _records(store: Store, state: TopicState, given: str) -> dict[str, Any]:
    try:
        key = _key(given)
    except ValueError:
        return {"key_error": _("After 0x come pairs of hexadecimal digits, such as 0x00ff.")}
    records, complete = last_records(store, state, key, _RECORDS)
    return {"records": [show_record(state.name, record) for record in records], "all_shown": complete}


def _tail(cluster: Cluster, name: str) -> dict[str, Any]:
    """Read a topic that the store does not hold from Kafka, if a route or a row names it."""
    try:
        tail = read_tail(reader_config(cluster), name, _RECORDS)
    except (ValueError, AttributeError, RuntimeError) as error:
        tail = Tail(complete=False, error=str(error))
    shown = [show_record(name, record) for record in tail.records]
    return {"from_kafka": True, "records": shown, "all_shown": tail.complete, "tail_error": tail.error}


def _key(given: str) -> bytes | None:
    """Parse a key from the form: text, or hexadecimal bytes after 0x; None: every key."""
    if given.startswith("0x"):
        return bytes.fromhex(given[2:])
    return given.encode() or None
