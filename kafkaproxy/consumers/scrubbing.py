"""Copies of credentials: what a proxy in front, or a browser, puts into fields that are no credential fields.

``referer`` and ``x-original-uri`` hold a whole URL, with the query that a guard reads; ``x-forwarded-access-token`` holds what
``authorization`` does. Records get neither (D5).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from kafkaproxy.routing.table import Credentials

__all__ = ["Scrubber"]

_SHORTEST: Final = 8
"""A shorter credential is found in everything, and guards nothing."""

Fields = Iterable[tuple[bytes, bytes]]


class Scrubber:
    """What a request's fields must not repeat."""

    def __init__(self, usual: frozenset[bytes], credentials: Credentials | None, fields: Fields, query: bytes) -> None:
        """Look for what the ``usual`` credential fields hold, and the places of ``credentials``."""
        self._names = frozenset[str]() if credentials is None else frozenset(credentials.query)
        found = set(_in_fields(usual, credentials, fields))
        if self._names and query:
            found.update(unquote_to_bytes(each[2]) for each in _parameters(self._names).findall(query))
        self._found = [each for each in found if len(each) >= _SHORTEST]

    def scrubbed(self, value: bytes) -> bytes | None:
        """Return a field's value with the query parameters of credentials emptied; None for a copy of a credential."""
        if self._names:
            value = _parameters(self._names).sub(rb"\1\2=", value)
        return None if any(each in value for each in self._found) else value


def _in_fields(usual: frozenset[bytes], credentials: Credentials | None, fields: Fields) -> Iterator[bytes]:
    """Yield what stands in credential fields: the last word of a field, and the cookies that a guard reads."""
    own = frozenset[bytes]() if credentials is None else frozenset(name.lower().encode() for name in credentials.headers)
    cookies = frozenset[bytes]() if credentials is None else frozenset(name.encode() for name in credentials.cookies)
    for name, value in fields:
        if name == b"cookie":
            for pair in value.split(b";"):
                cookie, _, text = pair.strip().partition(b"=")
                if cookie in cookies:
                    yield text
        elif (name in usual or name in own) and (words := value.split()):
            yield words[-1]


@lru_cache(maxsize=64)
def _parameters(names: Collection[str]) -> re.Pattern[bytes]:
    """Return what finds query parameters of these names, however they are percent-encoded, in a URL or a query."""
    spelled = b"|".join(b"".join(_spelled(each) for each in name.encode()) for name in sorted(names))
    return re.compile(rb"(^|[?&])(" + spelled + rb")=([^&#\s\"]*)")


def _spelled(byte: int) -> bytes:
    return rb"(?:" + re.escape(bytes([byte])) + rb"|(?i:%%%02x))" % byte
