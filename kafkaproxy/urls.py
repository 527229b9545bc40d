"""What a site may include: ``path("kafkaproxy/", include("kafkaproxy.urls"))`` serves ``/kafkaproxy/metrics`` and ``/ready``.

Nothing of it is secret, and nothing is for everybody: let the reverse proxy keep it inside.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from kafkaproxy.conf import get_settings
from kafkaproxy.metrics import render
from kafkaproxy.runtime import runtime

__all__ = ["app_name", "urlpatterns"]

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@require_safe
@never_cache
def metrics(_request: HttpRequest) -> HttpResponse:
    """Answer with what this process counted. Starts nothing."""
    running = runtime()
    return HttpResponse(render(streams=len(running.streams), waiting=running.worker.waiting), content_type=_CONTENT_TYPE)


@require_safe
@never_cache
def ready(_request: HttpRequest) -> HttpResponse:
    """Say whether this process knows its routes: 200, or 503 as long as it never loaded a configuration. Starts nothing."""
    table = runtime().table
    if table is not None and table.configuration.known:
        return HttpResponse("ready\n", content_type="text/plain")
    seconds = str(get_settings().retry_after_seconds)
    return HttpResponse("no configuration\n", content_type="text/plain", status=503, headers={"retry-after": seconds})


app_name = "kafkaproxy"
urlpatterns = [path("metrics", metrics, name="metrics"), path("ready", ready, name="ready")]
