"""Correlation ids: ``<idempotency key>-<32 hex digits>``.

The digits are two halves. The first identifies the owner of the exchange: the identities of the guards, and where the outcome
can be polled; a poll can check it without knowing the request. The second identifies the request (divergence D7): method, path
with query, resolved key, content-type, if-match, reply-to, overrides and the body. Other fields are in neither, so a retry with
a new token, date or trace id has the same id.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from typing import Final

__all__ = ["correlation_id", "is_owned", "owner_digest"]

_HALF: Final = 8
_DIGITS: Final = re.compile(r".+-[0-9a-f]{32}", re.DOTALL)
_OWNER: Final = b"kafkaproxy-own-1"
_REQUEST: Final = b"kafkaproxy-cid-1"


def owner_digest(identities: Iterable[tuple[str, str]], location: Iterable[str]) -> str:
    """Return the first half, which identifies the owner. ``identities`` are pairs of a guard and the identity that it found."""
    parts = [text for pair in identities for text in pair]
    return _digest(_OWNER, [str(len(parts)), *parts, *location])


def correlation_id(
    idempotency_key: str,
    *,
    owner: str,
    method: str,
    target: str,
    key: bytes | None,
    content_type: bytes | None,
    if_match: str | None,
    reply_to: str,
    overrides: Iterable[tuple[str, str]],
    body: bytes,
) -> str:
    """Return the id of an exchange; ``owner`` is an :func:`owner_digest`."""
    parts = [owner, method, target, key, content_type, if_match, reply_to, body]
    parts += [text for override in overrides for text in override]
    return f"{idempotency_key}-{owner}{_digest(_REQUEST, parts)}"


def is_owned(text: str, owner: str) -> bool:
    """Return True if the text is a correlation id of an exchange of that owner."""
    return _DIGITS.fullmatch(text) is not None and text[-4 * _HALF : -2 * _HALF] == owner


def _digest(person: bytes, parts: Iterable[str | bytes | None]) -> str:
    """Return the digest of a list of parts. The length before each part keeps different lists from having the same bytes."""
    digest = hashlib.blake2b(digest_size=_HALF, person=person)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(struct.pack(">q", -1 if raw is None else len(raw)))
        if raw:
            digest.update(raw)
    return digest.hexdigest()
