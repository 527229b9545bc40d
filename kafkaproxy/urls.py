"""URLs for operators: ``path("kafkaproxy/", include("kafkaproxy.urls"))`` serves ``/kafkaproxy/metrics`` and ``/ready``.

They hold no secret, but are not for the public: let the reverse proxy restrict them to the internal network.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from kafkaproxy.conf import get_settings
from kafkaproxy.metrics import render
from kafkaproxy.serving.runtime import runtime

__all__ = ["app_name", "urlpatterns"]

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@require_safe
@never_cache
def metrics(_request: HttpRequest) -> HttpResponse:
    """Return the metrics of this process in Prometheus text format. Does not start the runtime."""
    running = runtime()
    return HttpResponse(render(streams=len(running.streams), waiting=running.worker.waiting), content_type=_CONTENT_TYPE)


@require_safe
@never_cache
def ready(_request: HttpRequest) -> HttpResponse:
    """Return 200 if this process has loaded a configuration, else 503. Does not start the runtime."""
    table = runtime().table
    if table is not None and table.configuration.known:
        return HttpResponse("ready\n", content_type="text/plain")
    seconds = str(get_settings().retry_after_seconds)
    return HttpResponse("no configuration\n", content_type="text/plain", status=503, headers={"retry-after": seconds})


app_name = "kafkaproxy"
urlpatterns = [path("metrics", metrics, name="metrics"), path("ready", ready, name="ready")]
