"""Correlation ids: ``<idempotency key>-<32 hex digits>``.

The digest says what makes two requests the same (divergence D7): the guard identity, method, path with query, resolved key,
content-type, reply-to, overrides and the body; not the other fields, so a retry with a new
token, date or trace id keeps its id.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

__all__ = ["correlation_id"]

_DIGEST_BYTES = 16


def correlation_id(
    idempotency_key: str,
    *,
    identity: str,
    method: str,
    target: str,
    key: bytes | None,
    content_type: bytes | None,
    reply_to: str,
    overrides: Iterable[tuple[str, str]],
    body: bytes,
) -> str:
    """Return the id of an exchange. Parts are length-prefixed, so no two different requests run together."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES, person=b"kafkaproxy-cid-1")
    for part in (identity.encode(), method.encode(), target.encode(), key, content_type, reply_to.encode()):
        _update(digest, part)
    for name, value in overrides:
        _update(digest, name.encode())
        _update(digest, value.encode())
    _update(digest, body)
    return f"{idempotency_key}-{digest.hexdigest()}"


def _update(digest: hashlib.blake2b, part: bytes | None) -> None:
    digest.update(struct.pack(">q", -1 if part is None else len(part)))
    if part:
        digest.update(part)
