"""CORS as a pure function: a policy and a request's fields in, the fields of the response or a refusal out.

See the contract, *CORS*, and the Fetch standard, section 3.2. Preflights are stricter than the reference's, and their answers
list more (D30).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["CorsPolicy", "Fields", "Preflight", "normal_origin", "origin_in", "with_vary"]

Fields = list[tuple[bytes, bytes]]

_ORIGIN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://([a-z0-9._~%!$&'()*+,;=-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.IGNORECASE
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
# Fetch standard, "CORS-safelisted request-header". Without content-type: a preflight names it only if its value is not
# safelisted.
_SAFE_REQUEST_FIELDS: Final = frozenset({"accept", "accept-language", "content-language"})
# Never exposed by name: scripts may read these anyway, or have no use for them.
_NOT_EXPOSED: Final[frozenset[bytes]] = frozenset(
    {b"cache-control", b"content-language", b"content-length", b"content-type", b"expires", b"last-modified", b"pragma"}
    | {b"server", b"date", b"vary", b"connection"}
)
_ALLOW_ORIGIN: Final = b"access-control-allow-origin"


def normal_origin(origin: str) -> str | None:
    """Return an origin in lower case and without its default port; None if it is no origin. ``null`` is returned as it is."""
    if origin == "null":
        return origin
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return None
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    return f"{scheme}://{host}" if port is None or port == _DEFAULT_PORTS.get(scheme) else f"{scheme}://{host}:{port}"


def with_vary(fields: Fields, names: Iterable[str]) -> Fields:
    """Return the fields with one ``vary`` line that also names these fields (RFC 9110 section 12.5.5)."""
    known: list[str] = []
    for line in (value.decode("latin-1") for name, value in fields if name == b"vary"):
        known += [name.strip() for name in line.split(",")]
    merged = dict.fromkeys([*known, *names])
    rest = [each for each in fields if each[0] != b"vary"]
    return [*rest, (b"vary", ", ".join(merged).encode("latin-1"))] if merged else rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What a preflight requests, and what the routes of its path need whatever the policy lists."""

    method: str | None
    headers: tuple[str, ...]
    """In lower case."""
    needed_methods: frozenset[str] = frozenset()
    needed_headers: frozenset[str] = frozenset()
    private_network: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsPolicy:
    """A CORS policy. A list that is None allows anything; ``origins`` returns True for an allowed origin, as it was sent."""

    cross_origin: bool
    origins: Callable[[str], bool] | None = None
    methods: frozenset[str] | None = None
    headers: frozenset[str] | None = None
    """In lower case."""
    credentials: bool = False
    max_age: int | None = None
    exposed: frozenset[bytes] | None = None
    """In lower case."""
    private_network: bool = False
    names_origin: bool = field(init=False)
    """True if the response names the origin instead of ``*``, and so depends on it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names_origin", self.cross_origin and (self.credentials or self.origins is not None))

    def allows(self, origin: str, own: str) -> bool:
        """Return True if a request of ``origin`` may be served; ``own`` is the origin that it was sent to."""
        return _is_own(origin, own) or self._allows_foreign(origin)

    def _allows_foreign(self, origin: str) -> bool:
        if not self.cross_origin or (self.names_origin and normal_origin(origin) is None):
            return False
        return self.origins is None or self.origins(origin)

    def preflight(self, asked: Preflight, origin: str, own: str) -> Fields | None:
        """Return the fields of the preflight's response; None to refuse it."""
        if _is_own(origin, own):
            return []
        if not (self._allows_foreign(origin) and self._allows_method(asked) and self._allows_headers(asked)):
            return None
        fields: Fields = [(_ALLOW_ORIGIN, self._origin(origin))]
        if asked.method is not None:
            fields.append((b"access-control-allow-methods", self._method(asked.method)))
        if asked.headers:
            fields.append((b"access-control-allow-headers", self._headers(asked)))
        if self.max_age is not None:
            fields.append((b"access-control-max-age", str(self.max_age).encode()))
        if self.credentials:
            fields.append((b"access-control-allow-credentials", b"true"))
        if asked.private_network and self.private_network:
            fields.append((b"access-control-allow-private-network", b"true"))
        return with_vary(fields, ["origin"]) if self.names_origin else fields

    def added(self, fields: Fields, origin: str | None, own: str) -> Fields:
        """Return a response's fields with those of CORS. If the response allows an origin by itself, it is not changed."""
        if not self.cross_origin or any(name == _ALLOW_ORIGIN for name, _ in fields):
            return fields
        cors: Fields = []
        if not self.names_origin:
            if origin is None or not _is_own(origin, own):
                cors = [(_ALLOW_ORIGIN, b"*"), *self._exposed(fields)]
            return fields + cors
        if origin is not None and not _is_own(origin, own):
            cors.append((_ALLOW_ORIGIN, origin.encode("latin-1")))
            if self.credentials:
                cors.append((b"access-control-allow-credentials", b"true"))
            cors += self._exposed(fields)
        return with_vary(fields + cors, ["origin"])

    def _allows_method(self, asked: Preflight) -> bool:
        return (
            asked.method is None or self.methods is None or asked.method in self.methods or asked.method in asked.needed_methods
        )

    def _allows_headers(self, asked: Preflight) -> bool:
        if self.headers is None:
            return True
        return all(name in self.headers or name in asked.needed_headers | _SAFE_REQUEST_FIELDS for name in asked.headers)

    def _origin(self, origin: str) -> bytes:
        return origin.encode("latin-1") if self.names_origin else b"*"

    def _method(self, method: str) -> bytes:
        return b"*" if self.methods is None and not self.credentials else method.encode("latin-1")

    def _headers(self, asked: Preflight) -> bytes:
        if self.headers is not None or self.credentials:
            return ", ".join(asked.headers).encode("latin-1")
        # Fetch standard, "CORS-preflight fetch": the wildcard does not include authorization.
        return b"*, authorization" if "authorization" in asked.headers else b"*"

    def _exposed(self, fields: Fields) -> Fields:
        names = dict.fromkeys(name for name, _ in fields if name not in _NOT_EXPOSED)
        if self.exposed is not None or self.credentials:
            shown = b", ".join(name for name in names if self.exposed is None or name in self.exposed)
        else:
            shown = b"*" if names else b""
        return [(b"access-control-expose-headers", shown)] if shown else []


def origin_in(origins: Collection[str]) -> Callable[[str], bool]:
    """Return a function that tests if an origin is in the list. A default port may be written or left out on either side."""
    known = frozenset(normal_origin(each) or each for each in origins)
    return lambda origin: normal_origin(origin) in known


def _is_own(origin: str, own: str) -> bool:
    return own != "" and normal_origin(origin) == own
