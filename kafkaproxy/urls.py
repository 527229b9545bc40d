"""What a site may include: ``path("kafkaproxy/", include("kafkaproxy.urls"))`` serves ``/kafkaproxy/metrics``.

Nothing of it is secret, and nothing is for everybody: let the reverse proxy keep it inside.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

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


app_name = "kafkaproxy"
urlpatterns = [path("metrics", metrics, name="metrics")]
