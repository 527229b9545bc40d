"""A service's reply as a response (the contract, *From the reply to the response*), and fields that several handlers send."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from kafkaproxy.consumers.context import Exchange
from kafkaproxy.core.fields import HOP_BY_HOP, connection_fields, is_field_name, is_field_value
from kafkaproxy.core.prefer import Preferences
from kafkaproxy.http.problems import Fields, Problem
from kafkaproxy.http.request import Responder
from kafkaproxy.metrics import REPLIES_UNUSABLE, REPLY_FIELDS_DROPPED
from kafkaproxy.routing.matching import Match
from kafkaproxy.routing.table import Route
from kafkaproxy.worker.types import Record

__all__ = ["cache_fields", "preference_applied", "respond_with_reply"]

log = logging.getLogger("kafkaproxy.reply")

_NO_CONTENT: Final = frozenset({204, 205, 304})
"""Statuses whose responses have no body (RFC 9110 section 6.4.1); the record's value is not sent."""
_RESERVED_PREFIX: Final = "zilla:"
"""Headers with this prefix are for the proxy, not for clients."""


async def respond_with_reply(record: Record, exchange: Exchange, responder: Responder, more: Fields) -> None:
    """Send a service's reply. The fields ``more`` are added, except those that the reply has itself."""
    status = _status(record, exchange.match)
    fields = _fields(record, exchange)
    present = {name for name, _ in fields}
    fields += [field for field in more if field[0] not in present]
    body = b"" if status in _NO_CONTENT else record.value or b""
    if exchange.request.method == "HEAD" and not body and (length := _declared_length(record)) is not None:
        fields.append((b"content-length", length))
    await responder.respond(status, fields, body)


def _status(record: Record, match: Match) -> int:
    """Return the last ``:status``, 200 without one; raise a 502 :class:`Problem` for a value that is no status."""
    given = [value for name, value in record.headers if name == ":status"]
    if not given:
        return 200
    value = given[-1]
    if value is not None and len(value) == 3 and value.isdigit() and 200 <= int(value) <= 599:
        return int(value)
    REPLIES_UNUSABLE.cell(match.gateway.name, match.route.name).value += 1
    log.warning("bad_reply route=%s reason=status partition=%s offset=%s", match.route.name, record.partition, record.offset)
    raise Problem(502, "bad-reply", "The service's reply has no usable :status: it has to be 200 to 599.")


def _fields(record: Record, exchange: Exchange) -> Fields:
    gateway, route = exchange.match.gateway, exchange.match.route
    hidden = {":status", "content-length", gateway.correlation_header.lower(), route.correlation_header.lower()}
    hop_by_hop = HOP_BY_HOP | connection_fields(v for n, v in record.headers if n.lower() == "connection" and v)
    fields: Fields = []
    for name, value in record.headers:
        lower = name.lower()
        if lower in hidden or lower.startswith(_RESERVED_PREFIX):
            continue
        field = _field(lower, value, hop_by_hop)
        if field is not None:
            fields.append(field)
        elif lower.encode() not in hop_by_hop:
            REPLY_FIELDS_DROPPED.cell(gateway.name, route.name).value += 1
            log.warning("reply_header_dropped route=%s header=%.100r", route.name, name)
    return fields


def _field(name: str, value: bytes | None, hop_by_hop: Collection[bytes]) -> tuple[bytes, bytes] | None:
    """Return the response field of a record header; None for a hop-by-hop field or an invalid one (D12)."""
    raw = name.encode()
    if raw in hop_by_hop or value is None or not is_field_name(raw) or not is_field_value(value):
        return None
    return raw, value


def _declared_length(record: Record) -> bytes | None:
    """Return the reply's ``content-length``: for HEAD, the length that the body of GET would have (RFC 9110 section 8.6)."""
    value = next((value for name, value in record.headers if name.lower() == "content-length"), None)
    return value if value is not None and value.isdigit() else None


def cache_fields(route: Route) -> Fields:
    """Return ``cache-control``. CORS and guards add their fields later (``kafkaproxy.serving.dispatch``)."""
    return [(b"cache-control", route.cache_control.encode("latin-1", "replace"))]


def preference_applied(preferences: Preferences, *, respond_async: bool = False) -> Fields:
    """Return ``preference-applied`` for the preferences that were honoured (RFC 7240 section 3)."""
    honoured = ["respond-async"] if respond_async else []
    if preferences.wait:
        honoured.append(f"wait={preferences.wait}")
    return [(b"preference-applied", ", ".join(honoured).encode())] if honoured else []
