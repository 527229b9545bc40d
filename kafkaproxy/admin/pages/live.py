"""Watch streams, requests and errors live: the page, and the numbers that it asks for."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from kafkaproxy.admin.forms.generic import ModelAdmin
from kafkaproxy.admin.pages.base import page_context
from kafkaproxy.metrics import BROKER_UP, RECORDS, RESPONSES
from kafkaproxy.serving.runtime import Runtime, Table, runtime
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import TopicUnavailable
from kafkaproxy.worker.store.writer_lock import writer_pid

__all__ = ["LiveMixin", "snapshot"]

_SECONDS: Final = 1.0
_LONGEST: Final = 60.0
"""Seconds until the page has to connect again, which checks the user's permission again."""


class LiveMixin(ModelAdmin):
    """Adds the page to the admin of gateways."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page, its events, and the same numbers once."""
        wrap = self.admin_site.admin_view
        own = [
            path("live/", wrap(self.live_view), name="kafkaproxy_gateway_live"),
            path("live/events/", wrap(self.events_view), name="kafkaproxy_gateway_live_events"),
            path("live/data/", wrap(self.data_view), name="kafkaproxy_gateway_live_data"),
        ]
        return [*own, *super().get_urls()]

    def live_view(self, request: HttpRequest) -> HttpResponse:
        """Show the page; its script fills it."""
        _require_permission(request)
        return TemplateResponse(request, "admin/kafkaproxy/live.html", page_context(self, request, _("Live")))

    def data_view(self, request: HttpRequest) -> JsonResponse:
        """Answer with the numbers, once."""
        _require_permission(request)
        return JsonResponse(snapshot(runtime()))

    def events_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send the numbers every second. Only under ASGI: elsewhere a stream would hold a thread."""
        _require_permission(request)
        if not isinstance(request, ASGIRequest):
            return HttpResponse(_("Events need ASGI."), status=501, content_type="text/plain")
        _give_connections_back()
        headers = {"X-Accel-Buffering": "no"}
        return StreamingHttpResponse(_events(runtime()), content_type="text/event-stream", headers=headers)


def _require_permission(request: HttpRequest) -> None:
    if not request.user.has_perm("kafkaproxy.watch_gateway"):
        raise PermissionDenied


def _give_connections_back() -> None:
    """Close the database connections that looking up the user opened: the stream may be open for long."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


async def _events(running: Runtime) -> AsyncIterator[bytes]:
    running.streams.watch_signals()
    until = time.monotonic() + _LONGEST
    yield b"retry: 1000\n\n"
    while time.monotonic() < until and not running.streams.draining:
        yield f"data: {json.dumps(snapshot(running))}\n\n".encode()
        await asyncio.sleep(_SECONDS)


_MOST_ROUTES: Final = 100


def snapshot(running: Runtime) -> dict[str, Any]:
    """Return the numbers; touches neither database nor Kafka. ``at`` is a clock in seconds that only moves on."""
    table = running.table
    routes = sorted(_routes(), key=lambda row: (-row["5xx"], -row["4xx"], row["gateway"], row["route"]))
    return {
        "at": time.monotonic(),
        "process": f"{socket.gethostname()}, {os.getpid()}",
        "serving": table is not None and table.configuration.known,
        "streams": len(running.streams),
        "waiting": running.worker.waiting,
        "produced": sum(cell.value for (_, outcome), cell in list(RECORDS.cells.items()) if outcome == "acknowledged"),
        "failed": sum(cell.value for (_, outcome), cell in list(RECORDS.cells.items()) if outcome != "acknowledged"),
        "responses": sum(cell.value for cell in list(RESPONSES.cells.values())),
        "routes": routes[:_MOST_ROUTES],
        "left_out": max(len(routes) - _MOST_ROUTES, 0),
        "clusters": [] if table is None else [_cluster(running, table, name) for name in sorted(table.configuration.clusters)],
    }


def _routes() -> Iterator[dict[str, Any]]:
    """Yield the routes that answered, with their answers by class."""
    found: dict[tuple[str, str, str], Counter[str]] = {}
    for (gateway, route, capability, status), cell in list(RESPONSES.cells.items()):
        found.setdefault((gateway, route, capability), Counter())[status] += cell.value
    for (gateway, route, capability), counts in found.items():
        if counts.total():
            by_class = {each: counts[each] for each in ("2xx", "3xx", "4xx", "5xx")}
            yield {"gateway": gateway, "route": route, "capability": capability, **by_class}


def _cluster(running: Runtime, table: Table, name: str) -> dict[str, Any]:
    broker = BROKER_UP.cells.get((name,))
    row = {"name": name, "error": table.configuration.clusters[name].error, "broker": None if broker is None else broker.value}
    try:
        return {**row, **_worker(running.worker.cluster(name))}
    except TopicUnavailable as error:
        return {**row, "error": row["error"] or error.detail}


def _worker(cluster: ClusterWorker) -> dict[str, Any]:
    states = list(cluster.topics().values())
    return {
        "writer": writer_pid(cluster.store.path),
        "own": cluster.ingest is not None and cluster.ingest.writing,
        "topics": len(states),
        "ready": sum(state.ready and not state.error for state in states),
        "errors": sorted(f"{state.name}: {state.error}" for state in states if state.error)[:10],
    }
