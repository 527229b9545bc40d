"""Find the credential in a request: in cookies, then fields, then the query, by the gateway's templates (D29).

A template is literal text around ``{credentials}``, such as ``Bearer {credentials}``. After ``Basic``, the template matches
the decoded base64: ``Basic {username}:{credentials}`` takes the password, ``Basic {username}:{password}`` both.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol
from urllib.parse import unquote, unquote_plus

from kafkaproxy.routing.table import Credentials

__all__ = ["AMBIGUOUS", "MAX_CREDENTIAL", "NO_LOCATIONS", "CredentialLocations", "RequestParts"]

MAX_CREDENTIAL: Final = 16 * 1024
"""The longest credential that is checked, in characters."""
AMBIGUOUS: Final = ""
"""Found instead of a credential that stands twice or is too long. No guard accepts it."""

_PLACEHOLDER: Final = re.compile(r"\{(credentials|username|password)\}")
_SCHEME: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) +")
_PLACEHOLDER_PATTERNS: Final = {"credentials": r"\S+", "username": r"[^:]*", "password": r".*"}

Read = Callable[[str], str | None]
"""Takes the value of a cookie, field or parameter; returns the credential, None if the value does not match the template."""


class RequestParts(Protocol):
    """The parts of a request that may contain a credential."""

    query: bytes

    def lines(self, name: bytes) -> list[str]:
        """Return the value of every line of a field."""
        ...


class CredentialLocations:
    """The compiled templates of one guard's credential."""

    def __init__(self, credentials: Credentials) -> None:
        self._cookies = {name: _plain(pattern) for name, pattern in credentials.cookies.items()}
        self._headers = {name.lower().encode(): _field(pattern) for name, pattern in credentials.headers.items()}
        self._query = {name: _plain(pattern) for name, pattern in credentials.query.items()}
        self.scheme = _scheme(credentials.headers)
        """The scheme for ``www-authenticate``."""
        self.fields = tuple(dict.fromkeys([*(["cookie"] if self._cookies else []), *map(str.lower, credentials.headers)]))
        """The request fields that the response depends on."""

    def find(self, request: RequestParts) -> str | None:
        """Return the credential; None without one, :data:`AMBIGUOUS` if it stands twice or is too long."""
        for found in (self._in_cookies(request), self._in_headers(request), self._in_query(request)):
            if found is not None:
                return found if len(found) <= MAX_CREDENTIAL else AMBIGUOUS
        return None

    def _in_cookies(self, request: RequestParts) -> str | None:
        if not self._cookies:
            return None
        sent: dict[str, str] = {}
        for name, value in _cookie_pairs(request.lines(b"cookie")):
            sent.setdefault(
                name, value
            )  # the first counts: browsers send the cookie with the longest path first (RFC 6265 section 5.4)
        return _first(read(sent[name]) for name, read in self._cookies.items() if name in sent)

    def _in_headers(self, request: RequestParts) -> str | None:
        for name, read in self._headers.items():
            lines = request.lines(name)
            found = _first(map(read, lines))
            if found is not None:
                # A reverse proxy in front may have checked the other line of a field that may stand only once.
                return found if len(lines) == 1 else AMBIGUOUS
        return None

    def _in_query(self, request: RequestParts) -> str | None:
        if not self._query or not request.query:
            return None
        sent: dict[str, list[str]] = {}
        for pair in request.query.decode("latin-1").split("&"):
            name, _, value = pair.partition("=")
            sent.setdefault(unquote_plus(name), []).append(unquote(value))
        for name, read in self._query.items():
            found = _first(map(read, sent.get(name, ())))
            if found is not None:
                return found if len(sent[name]) == 1 else AMBIGUOUS
        return None


def _first(found: Iterable[str | None]) -> str | None:
    return next((each for each in found if each is not None), None)


def _cookie_pairs(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:  # HTTP/2 may split the field (RFC 9113 section 8.2.3)
        for pair in line.split(";"):
            name, _, value = pair.strip().partition("=")
            yield name, value


def _plain(pattern: str) -> Read:
    return _reader(re.compile(_expression(pattern)), pattern)


def _field(pattern: str) -> Read:
    """Compile the template of a field. A scheme at its start is case-insensitive (RFC 9110 section 11.1)."""
    scheme = _SCHEME.match(pattern)
    if scheme is None:
        return _plain(pattern)
    rest = pattern[scheme.end() :]
    if scheme[1].lower() == "basic" and (":" in rest or "{username}" in rest):
        return _basic(rest)
    return _reader(re.compile(rf"(?i:{re.escape(scheme[1])}) +{_expression(rest)}"), rest)


def _basic(rest: str) -> Read:
    read = _plain(rest)
    token = re.compile(r"(?i:basic) +([A-Za-z0-9+/]+={0,2})")

    def decode(text: str) -> str | None:
        found = token.fullmatch(text)
        if found is None:
            return None
        try:
            return read(base64.b64decode(found[1], validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            return None

    return decode


def _reader(expression: re.Pattern[str], pattern: str) -> Read:
    def read(text: str) -> str | None:
        found = expression.fullmatch(text)
        if found is None:
            return None
        values = found.groupdict()
        # As in the reference: without {credentials}, the credential is the template with its placeholders filled in.
        return values.get("credentials") or _PLACEHOLDER.sub(lambda name: values[name[1]], pattern)

    return read


def _expression(pattern: str) -> str:
    """Return the regular expression of a template. A placeholder that occurs twice has to match the same text."""
    parts: list[str] = []
    seen: set[str] = set()
    end = 0
    for found in _PLACEHOLDER.finditer(pattern):
        name = found[1]
        parts += [
            re.escape(pattern[end : found.start()]),
            f"(?P={name})" if name in seen else f"(?P<{name}>{_PLACEHOLDER_PATTERNS[name]})",
        ]
        seen.add(name)
        end = found.end()
    return "".join([*parts, re.escape(pattern[end:])])


def _scheme(headers: Mapping[str, str]) -> str:
    pattern = next((pattern for name, pattern in headers.items() if name.lower() == "authorization"), "")
    scheme = _SCHEME.match(pattern)
    return "Bearer" if scheme is None else scheme[1]


NO_LOCATIONS: Final = CredentialLocations(Credentials(guard="", cookies={}, headers={}, query={}))
"""For a guard whose credential the gateway does not locate: it refuses every request, as in the reference."""
