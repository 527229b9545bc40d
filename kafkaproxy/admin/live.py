"""Live: what happens in the process that serves the page, sent to it as it changes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Final

from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from kafkaproxy.admin.generic import ModelAdmin
from kafkaproxy.admin.live_snapshot import snapshot
from kafkaproxy.admin.pages import page_context
from kafkaproxy.serving.runtime import Runtime, runtime

__all__ = ["LiveMixin"]

_SECONDS: Final = 1.0
_LONGEST: Final = 60.0
"""Seconds until a page has to come back, and its user to prove again that they may watch."""


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
    """Hold no database connection while the page is open: it took one to look the user up."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


async def _events(running: Runtime) -> AsyncIterator[bytes]:
    running.streams.watch()
    until = time.monotonic() + _LONGEST
    yield b"retry: 1000\n\n"
    while time.monotonic() < until and not running.streams.draining:
        yield f"data: {json.dumps(snapshot(running))}\n\n".encode()
        await asyncio.sleep(_SECONDS)
