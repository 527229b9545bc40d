"""The site that the proxy wraps in tests."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path


def site(request: HttpRequest) -> HttpResponse:
    """Answer for the wrapped site."""
    return HttpResponse(f"site {request.method} {request.path}", content_type="text/plain")


urlpatterns = [path("admin/", admin.site.urls), path("", site), path("site/<path:rest>", lambda r, rest: site(r))]
