"""Response fields that several handlers share."""

from __future__ import annotations

from kafkaproxy.consumers.problems import Fields
from kafkaproxy.core.prefer import Preferences
from kafkaproxy.routing.table import Gateway, Route

__all__ = ["applied", "response_fields", "vary_fields"]


def response_fields(route: Route, gateway: Gateway) -> Fields:
    """Return ``cache-control``, and ``vary`` on what a guard read (RFC 9110 section 12.5.5)."""
    return [(b"cache-control", route.cache_control.encode("latin-1", "replace")), *vary_fields(route, gateway)]


def vary_fields(route: Route, gateway: Gateway) -> Fields:
    """Return ``vary`` on what a guard read, where one did."""
    fields: Fields = []
    credentials = gateway.credentials
    if credentials is not None and (route.guarded or route.guard_names):
        names = [*credentials.headers, *(["cookie"] if credentials.cookies else [])]
        if names:
            fields.append((b"vary", ", ".join(names).encode("latin-1", "replace")))
    return fields


def applied(preferences: Preferences, *, respond_async: bool = False) -> Fields:
    """Return ``preference-applied`` for what was honoured (RFC 7240 section 3)."""
    honoured = ["respond-async"] if respond_async else []
    if preferences.wait:
        honoured.append(f"wait={preferences.wait}")
    return [(b"preference-applied", ", ".join(honoured).encode())] if honoured else []
