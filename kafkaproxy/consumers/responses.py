"""Response fields that several handlers share."""

from __future__ import annotations

from kafkaproxy.core.prefer import Preferences
from kafkaproxy.http.problems import Fields
from kafkaproxy.routing.table import Route

__all__ = ["applied", "response_fields"]


def response_fields(route: Route) -> Fields:
    """Return ``cache-control``. What CORS and guards add comes later (``kafkaproxy.serving.dispatch``)."""
    return [(b"cache-control", route.cache_control.encode("latin-1", "replace"))]


def applied(preferences: Preferences, *, respond_async: bool = False) -> Fields:
    """Return ``preference-applied`` for what was honoured (RFC 7240 section 3)."""
    honoured = ["respond-async"] if respond_async else []
    if preferences.wait:
        honoured.append(f"wait={preferences.wait}")
    return [(b"preference-applied", ", ".join(honoured).encode())] if honoured else []
