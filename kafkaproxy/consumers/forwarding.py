"""What of a request goes into its record, where a service answers it (the contract, *With reply-to*)."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_plus

from kafkaproxy.consumers.scrubbing import Scrubber
from kafkaproxy.core.etags import parse_if_match
from kafkaproxy.core.fields import HOP_BY_HOP, connection_fields
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import Gateway

__all__ = ["forwarded", "forwarded_if_match", "without_credentials"]

_NEVER: Final = HOP_BY_HOP | {b"content-length", b"prefer", b"host"}


def forwarded(request: Request, gateway: Gateway, if_match: str | None) -> list[tuple[str, bytes]]:
    """Return the headers that a request brings into its record, pseudo-headers first.

    Not among them: hop-by-hop fields, ``content-length``, ``prefer``, and credentials or copies of them (D5). ``if_match``
    stands where the request has its ``if-match``.
    """
    target = request.target if gateway.forward_credentials else without_credentials(request, gateway)
    headers = [
        (":method", request.method.encode()),
        (":scheme", request.scheme.encode()),
        (":authority", request.authority.encode("latin-1")),
        (":path", target.encode("latin-1")),
    ]
    dropped, allowed = _dropped(request, gateway), gateway.forwarded_fields
    scrubber = None
    if not gateway.forward_credentials:
        scrubber = Scrubber(gateway.credential_fields, gateway.credentials, request.fields, request.query)
    for name, value in request.fields:
        if name in dropped or (allowed is not None and name not in allowed):
            continue
        if name != b"if-match":
            clean = value if scrubber is None else scrubber.scrubbed(value)
            if clean is not None:
                headers.append((name.decode("latin-1"), clean))
        elif if_match is not None:
            headers.append(("if-match", if_match.encode()))
            if_match = None  # its lines are one list
    return headers


def forwarded_if_match(request: Request) -> str | None:
    """Return what the service gets as ``if-match``; None where it gets none."""
    return None if request.field(b"if-match") is None else parse_if_match(request.lines(b"if-match"))


def without_credentials(request: Request, gateway: Gateway) -> str:
    """Return the target without the query parameters that a guard reads its credential from."""
    names = gateway.credentials.query if gateway.credentials is not None else ()
    if not names or not request.query:
        return request.target
    pairs = request.query.decode("latin-1").split("&")
    kept = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) not in names]
    return f"{request.path}?{'&'.join(kept)}" if kept else request.path


def _dropped(request: Request, gateway: Gateway) -> frozenset[bytes]:
    dropped = _NEVER | gateway.dropped_fields
    if request.field(b"connection") is not None:
        dropped |= connection_fields(value for name, value in request.fields if name == b"connection")
    if not gateway.forward_credentials:
        dropped |= gateway.credential_fields
        if gateway.credentials is not None:
            dropped |= {name.lower().encode() for name in gateway.credentials.headers}
    return dropped
