"""From a service's reply to the response (the contract, *From the reply to the response*)."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from kafkaproxy.consumers.context import Exchange
from kafkaproxy.core.fields import HOP_BY_HOP, connection_fields, is_field_name, is_field_value
from kafkaproxy.http.problems import Fields, Problem
from kafkaproxy.http.request import Responder
from kafkaproxy.metrics import REPLIES_UNUSABLE, REPLY_FIELDS_DROPPED
from kafkaproxy.routing.matching import Match
from kafkaproxy.worker.types import Record

__all__ = ["answer"]

log = logging.getLogger("kafkaproxy.reply")

_NO_CONTENT: Final = frozenset({204, 205, 304})
"""Statuses whose response has no body, whatever the record's value (RFC 9110 section 6.4.1)."""
_OURS: Final = "zilla:"


async def answer(record: Record, exchange: Exchange, responder: Responder, more: Fields) -> None:
    """Send a reply. ``more`` goes into the response too, unless the service says the same field itself."""
    status = _status(record, exchange.match)
    fields = _fields(record, exchange)
    present = {name for name, _ in fields}
    fields += [field for field in more if field[0] not in present]
    body = b"" if status in _NO_CONTENT else record.value or b""
    if exchange.request.method == "HEAD" and not body and (length := _declared_length(record)) is not None:
        fields.append((b"content-length", length))
    await responder.respond(status, fields, body)


def _status(record: Record, match: Match) -> int:
    """Return the last ``:status``; 200 where there is none."""
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
        if lower in hidden or lower.startswith(_OURS):
            continue
        field = _field(lower, value, hop_by_hop)
        if field is not None:
            fields.append(field)
        elif lower.encode() not in hop_by_hop:
            REPLY_FIELDS_DROPPED.cell(gateway.name, route.name).value += 1
            log.warning("reply_header_dropped route=%s header=%.100r", route.name, name)
    return fields


def _field(name: str, value: bytes | None, hop_by_hop: Collection[bytes]) -> tuple[bytes, bytes] | None:
    """Return the response field of a header; None for what is hop-by-hop, or no field at all (D12)."""
    raw = name.encode()
    if raw in hop_by_hop or value is None or not is_field_name(raw) or not is_field_value(value):
        return None
    return raw, value


def _declared_length(record: Record) -> bytes | None:
    """Return what a reply to HEAD says the body of GET would measure (RFC 9110 section 8.6)."""
    value = next((value for name, value in record.headers if name.lower() == "content-length"), None)
    return value if value is not None and value.isdigit() else None
