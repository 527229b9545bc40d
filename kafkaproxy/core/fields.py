"""Rules for HTTP fields: which are valid, which are hop-by-hop, which carry a credential."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["CREDENTIAL_FIELDS", "HOP_BY_HOP", "connection_fields", "is_field_name", "is_field_value"]

# RFC 9110 section 7.6.1 and RFC 9113 section 8.2.2; the proxy- fields are for the next hop, which Kafka is not.
HOP_BY_HOP: Final[frozenset[bytes]] = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
    | {b"http2-settings", b"proxy-authenticate", b"proxy-authentication-info"}
)
CREDENTIAL_FIELDS: Final[frozenset[bytes]] = frozenset(
    {b"authorization", b"cookie", b"proxy-authorization", b"x-csrftoken", b"x-challenge-session"}
)

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5: visible characters, obs-text, and single spaces and tabs inside.
_VALUE: Final = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\x20\x09\x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")


def is_field_name(name: bytes) -> bool:
    """Return True if the name is a token (RFC 9110 section 5.6.2)."""
    return _NAME.fullmatch(name) is not None


def is_field_value(value: bytes) -> bool:
    """Return True if the value is valid (RFC 9110 section 5.5): no control characters, no white space at its ends."""
    return _VALUE.fullmatch(value) is not None


def connection_fields(values: Iterable[bytes]) -> frozenset[bytes]:
    """Return the names, in lower case, that the lines of ``connection`` declare hop-by-hop."""
    return frozenset(name.strip().lower() for value in values for name in value.split(b","))
