"""Which headers a request brings into its record, where a service answers it (the contract, *With reply-to*).

Credentials are not among them, and neither are copies of credentials (D5). A reverse proxy or a browser makes such copies:
``referer`` and ``x-original-uri`` hold a whole URL with the query parameter that a guard reads, ``x-forwarded-access-token``
holds the token of ``authorization``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes

from kafkaproxy.core.etags import parse_if_match
from kafkaproxy.core.fields import HOP_BY_HOP, connection_fields
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import Credentials, Gateway

__all__ = ["CredentialCopies", "forwarded_headers", "forwarded_if_match", "target_without_credentials"]

_NEVER: Final = HOP_BY_HOP | {b"content-length", b"prefer", b"host"}
_SHORTEST_CREDENTIAL: Final = 8
"""Copies of a shorter credential are not searched for: its bytes would be found in unrelated values."""

RequestFields = Iterable[tuple[bytes, bytes]]


def forwarded_headers(request: Request, gateway: Gateway, if_match: str | None) -> list[tuple[str, bytes]]:
    """Return the headers that a request brings into its record, pseudo-headers first.

    Left out are hop-by-hop fields, ``content-length``, ``prefer``, credentials and copies of them (D5). ``if_match`` replaces
    the lines of the request's ``if-match``.
    """
    target = request.target if gateway.forward_credentials else target_without_credentials(request, gateway)
    headers = [
        (":method", request.method.encode()),
        (":scheme", request.scheme.encode()),
        (":authority", request.authority.encode("latin-1")),
        (":path", target.encode("latin-1")),
    ]
    dropped, allowed = _dropped(request, gateway), gateway.forwarded_fields
    copies = None
    if not gateway.forward_credentials:
        copies = CredentialCopies(gateway.credential_fields, gateway.credentials, request.fields, request.query)
    for name, value in request.fields:
        if name in dropped or (allowed is not None and name not in allowed):
            continue
        if name != b"if-match":
            clean = value if copies is None else copies.removed_from(value)
            if clean is not None:
                headers.append((name.decode("latin-1"), clean))
        elif if_match is not None:
            headers.append(("if-match", if_match.encode()))
            if_match = None  # several lines become one header
    return headers


def forwarded_if_match(request: Request) -> str | None:
    """Return the ``if-match`` that the service gets; None if it gets none."""
    return None if request.field(b"if-match") is None else parse_if_match(request.lines(b"if-match"))


def target_without_credentials(request: Request, gateway: Gateway) -> str:
    """Return the request target without the query parameters that a guard reads its credential from."""
    names = gateway.credentials.query if gateway.credentials is not None else ()
    if not names or not request.query:
        return request.target
    pairs = request.query.decode("latin-1").split("&")
    remaining = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) not in names]
    return f"{request.path}?{'&'.join(remaining)}" if remaining else request.path


def _dropped(request: Request, gateway: Gateway) -> frozenset[bytes]:
    dropped = _NEVER | gateway.dropped_fields
    if request.field(b"connection") is not None:
        dropped |= connection_fields(value for name, value in request.fields if name == b"connection")
    if not gateway.forward_credentials:
        dropped |= gateway.credential_fields
        if gateway.credentials is not None:
            dropped |= {name.lower().encode() for name in gateway.credentials.headers}
    return dropped


class CredentialCopies:
    """Finds copies of a request's credentials in the values of its other fields."""

    def __init__(
        self, credential_fields: frozenset[bytes], credentials: Credentials | None, fields: RequestFields, query: bytes
    ) -> None:
        """Take the credentials from ``credential_fields`` and from the locations that ``credentials`` names."""
        self._parameter_names = frozenset[str]() if credentials is None else frozenset(credentials.query)
        found = set(_credentials_in_fields(credential_fields, credentials, fields))
        if self._parameter_names and query:
            found.update(unquote_to_bytes(each[2]) for each in _parameters(self._parameter_names).findall(query))
        self._credentials = [each for each in found if len(each) >= _SHORTEST_CREDENTIAL]

    def removed_from(self, value: bytes) -> bytes | None:
        """Return a field's value with credential query parameters emptied; None if it still contains a credential."""
        if self._parameter_names:
            value = _parameters(self._parameter_names).sub(rb"\1\2=", value)
        return None if any(each in value for each in self._credentials) else value


def _credentials_in_fields(
    credential_fields: frozenset[bytes], credentials: Credentials | None, fields: RequestFields
) -> Iterator[bytes]:
    """Yield the credentials: the last word of each credential field, and the cookies that a guard reads."""
    own = frozenset[bytes]() if credentials is None else frozenset(name.lower().encode() for name in credentials.headers)
    cookies = frozenset[bytes]() if credentials is None else frozenset(name.encode() for name in credentials.cookies)
    for name, value in fields:
        if name == b"cookie":
            for pair in value.split(b";"):
                cookie, _, text = pair.strip().partition(b"=")
                if cookie in cookies:
                    yield text
        elif (name in credential_fields or name in own) and (words := value.split()):
            yield words[-1]


@lru_cache(maxsize=64)
def _parameters(names: Collection[str]) -> re.Pattern[bytes]:
    """Return a pattern for query parameters of these names in a URL or a query, with any percent-encoding of the names."""
    spellings = b"|".join(b"".join(_spellings(each) for each in name.encode()) for name in sorted(names))
    return re.compile(rb"(^|[?&])(" + spellings + rb")=([^&#\s\"]*)")


def _spellings(byte: int) -> bytes:
    return rb"(?:" + re.escape(bytes([byte])) + rb"|(?i:%%%02x))" % byte
