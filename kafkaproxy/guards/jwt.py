"""The kind ``jwt``: signed tokens of an issuer (RFC 7519), verified with PyJWT.

The signature is checked first, then ``iss``, ``aud``, ``exp`` and ``nbf``. The key declares its algorithm, and the token has to
use that one: a token cannot choose the key material, its location or a check.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from django.utils.translation import gettext as _
from jwt import PyJWS, algorithms
from jwt.exceptions import PyJWTError

from kafkaproxy.guards.claims import number_of, principal_of
from kafkaproxy.guards.credential_cache import CredentialCache
from kafkaproxy.guards.jwks import RemoteKeys, check_location, download
from kafkaproxy.guards.keys import (
    ALGORITHMS,
    InlineKeys,
    KeySet,
    KeysUnavailable,
    MissingCryptography,
    UndeclaredAlgorithm,
    VerificationKey,
    read_key,
)
from kafkaproxy.guards.options import (
    REQUIRED,
    Option,
    OptionError,
    check_options,
    flag,
    mentions_env,
    nullable,
    read_options,
    seconds,
    text,
    text_map,
    texts,
)
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import GuardConfig

__all__ = ["InvalidToken", "JwtGuard", "Verifier", "read_header"]

log = logging.getLogger("kafkaproxy.guards")

# RFC 7515 section 7.1; by section 2 the encoding has neither padding nor white space. No part may be empty.
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_JWS: Final = PyJWS(algorithms=list(ALGORITHMS))
_LONGEST_CACHED: Final = 300.0
"""How long, in seconds, a token without ``exp`` is cached."""


def _keys(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if not isinstance(value, list):
        raise ValueError(_("Write a list of JSON Web Keys, or the URL of a JWKS."))
    return value


def _algorithm(value: Any) -> str:
    if value not in ALGORITHMS:
        raise ValueError(_("Write one of %(known)s.") % {"known": ", ".join(ALGORITHMS)})
    return str(value)


OPTIONS: Final[Mapping[str, Option]] = {
    "issuer": Option(nullable(text), REQUIRED),
    "audience": Option(nullable(texts), REQUIRED),
    "keys": Option(_keys),
    "algorithm": Option(_algorithm),
    "roles": Option(text, "scope"),
    "identity": Option(text, "sub"),
    "attributes": Option(text_map, {}),
    "challenge": Option(nullable(seconds(0, 86_400))),
    "leeway": Option(seconds(0, 600), 0.0),
    "cache": Option(seconds(1, 86_400), 300.0),
    "timeout": Option(seconds(0.1, 60), 5.0),
    "allow_http": Option(flag, default=False),
}


class InvalidToken(Exception):
    """The token is not valid. ``reason`` is a word for the log, and never contains a part of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeySource(Protocol):
    """A source of keys."""

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """Return the key for a token; None without one. Raise :class:`KeysUnavailable` if no keys are available now."""
        ...


@dataclass(frozen=True, slots=True)
class _VerifiedToken:
    """A verified token. It is valid only while the key that verified it is still in the key source."""

    kid: str | None
    key: VerificationKey
    principal: ClientPrincipal


class JwtGuard:
    """Authenticates by signed tokens of an issuer."""

    fields: tuple[str, ...] | None = None
    scheme: str | None = None

    def __init__(self, config: GuardConfig, *, clock: Callable[[], float] = time.time, keys: KeySource | None = None) -> None:
        options = read_options(config.options, OPTIONS)
        self._name = config.name
        self._clock = clock
        self._keys = keys or _key_source(config.name, options)
        self._verifier = Verifier(options)
        self._cache: CredentialCache[_VerifiedToken] = CredentialCache()

    @staticmethod
    def check(options: Mapping[str, Any]) -> None:
        """Check options as they are written; raise :class:`OptionError`."""
        values = check_options(options, OPTIONS)
        problems = list(_key_problems(values, options))
        if problems:
            raise OptionError(problems)

    async def authenticate(self, request: Request, credential: str | None) -> ClientPrincipal | Refusal:  # noqa: ARG002
        """Return the principal of the token, from the credential cache if it is there."""
        if credential is None:
            return Refusal.MISSING
        try:
            return await self._from_cache(credential) or await self._verify(credential)
        except InvalidToken as error:
            log.info("credential_refused guard=%s reason=%s", self._name, error.reason)
            return Refusal.INVALID
        except KeysUnavailable:
            log.warning("credential_undecided guard=%s reason=no_keys", self._name)
            return Refusal.UNAVAILABLE

    async def _from_cache(self, token: str) -> ClientPrincipal | None:
        verified = self._cache.get(token, self._clock())
        if verified is None:
            return None
        if await self._keys.find(verified.kid, verified.key.algorithm) == verified.key:
            return verified.principal
        self._cache.remove(token)
        return None

    async def _verify(self, token: str) -> ClientPrincipal:
        kid, algorithm = read_header(token)
        key = await self._keys.find(kid, algorithm)
        if key is None:
            raise InvalidToken("no_key")
        now = self._clock()
        principal = self._verifier.verify(token, key, now)
        until = now + _LONGEST_CACHED if principal.expires_at is None else principal.expires_at
        self._cache.put(token, _VerifiedToken(kid, key, principal), until)
        return principal


class Verifier:
    """Verifies tokens by a guard's options, and reads their claims."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    def verify(self, token: str, key: VerificationKey, now: float) -> ClientPrincipal:
        """Return the principal of the token; raise :class:`InvalidToken`. ``now``: seconds since the epoch."""
        try:
            payload = _JWS.decode_complete(token, key.material, algorithms=[key.algorithm])["payload"]
            claims = json.loads(payload)
        except PyJWTError as error:
            raise InvalidToken(_REASONS.get(type(error).__name__, "malformed")) from None
        except (ValueError, RecursionError):
            raise InvalidToken("malformed") from None
        if not isinstance(claims, dict):
            raise InvalidToken("malformed")
        self._check_parties(claims)
        expires_at = self._expiry(claims, now)
        try:
            return principal_of(claims, self._options, identity=self._options["identity"], expires_at=expires_at)
        except ValueError:
            raise InvalidToken("malformed") from None

    def _check_parties(self, claims: Mapping[str, Any]) -> None:
        issuer, audience = self._options["issuer"], self._options["audience"]
        if issuer is not None and claims.get("iss") != issuer:
            raise InvalidToken("issuer")
        if audience is not None:
            given = claims.get("aud")
            named = given if isinstance(given, list) else [given]
            if not any(each in named for each in audience):
                raise InvalidToken("audience")

    def _expiry(self, claims: Mapping[str, Any], now: float) -> float | None:
        leeway = self._options["leeway"]
        try:
            expires, begins = number_of(claims, "exp"), number_of(claims, "nbf")
        except ValueError:
            raise InvalidToken("malformed") from None
        if begins is not None and now < begins - leeway:
            raise InvalidToken("not_yet_valid")
        if expires is None:
            return None
        if now >= expires + leeway:  # RFC 7519 section 4.1.4: invalid at that time already
            raise InvalidToken("expired")
        return float(expires + leeway)


_REASONS: Final = {"InvalidSignatureError": "signature", "InvalidAlgorithmError": "algorithm", "InvalidKeyError": "key"}


def read_header(token: str) -> tuple[str | None, str]:
    """Return key id and algorithm of a well-formed token; raise :class:`InvalidToken`. Verifies no signature."""
    parts = _COMPACT.fullmatch(token)
    if parts is None or not all(map(_is_canonical, parts.groups())):
        raise InvalidToken("malformed")
    try:
        header = json.loads(_decoded(parts[1]))
    except (ValueError, RecursionError):
        raise InvalidToken("malformed") from None
    if not isinstance(header, dict):
        raise InvalidToken("malformed")
    kid, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
        raise InvalidToken("malformed")
    if algorithm not in ALGORITHMS:
        raise InvalidToken("algorithm")
    return kid, algorithm


def _is_canonical(part: str) -> bool:
    """True if this is the canonical base64url of its bytes, so that no second text is a token of the same signature."""
    try:
        return base64.urlsafe_b64encode(_decoded(part)).rstrip(b"=") == part.encode()
    except binascii.Error:
        return False


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _key_source(name: str, options: Mapping[str, Any]) -> KeySource:
    if isinstance(options["keys"], list):
        return InlineKeys(KeySet(_inline_keys(name, options)))
    location = check_location(_location(options), allow_http=options["allow_http"])
    if not algorithms.has_crypto:
        raise MissingCryptography
    fetch = functools.partial(download, location, options["timeout"], allow_http=options["allow_http"])
    return RemoteKeys(name, fetch, cache_seconds=options["cache"], algorithm=options["algorithm"])


def _inline_keys(name: str, options: Mapping[str, Any]) -> Iterator[VerificationKey]:
    for number, jwk in enumerate(options["keys"], 1):
        try:
            yield read_key(jwk, options["algorithm"])
        except UndeclaredAlgorithm:  # as in the reference: such a key is loaded and never used
            log.warning("key_unused guard=%s key=%s reason=no_alg", name, number)


def _location(options: Mapping[str, Any]) -> str:
    """Return the URL of the keys: the option, else the issuer's well-known location."""
    if options["keys"] is not None:
        return str(options["keys"])
    if options["issuer"] is None:
        raise ValueError(_("Write keys: there is no issuer to ask for them."))
    return str(options["issuer"]).rstrip("/") + "/.well-known/jwks.json"


def _key_problems(values: Mapping[str, Any], written: Mapping[str, Any]) -> list[str]:
    """Return the problems of the keys, except those that depend on environment variables."""
    keys = written.get("keys")
    if isinstance(keys, list):
        return _inline_problems(keys, values)
    if mentions_env(keys) or (keys is None and mentions_env(written.get("issuer"))):
        return []
    try:
        check_location(_location({"keys": None, "issuer": None} | dict(values)), allow_http=values.get("allow_http") or False)
    except ValueError as error:
        return [f"keys: {error}"]
    return [] if algorithms.has_crypto else [f"keys: {MissingCryptography()}"]


def _inline_problems(keys: list[Any], values: Mapping[str, Any]) -> list[str]:
    """Return the problems of inline keys. A key without an algorithm is one only if every key is: no token is valid then."""
    problems: list[str] = []
    unused: list[str] = []
    for number, jwk in enumerate(keys, 1):
        if mentions_env(jwk):
            continue
        try:
            read_key(jwk, values.get("algorithm"))
        except UndeclaredAlgorithm as error:
            unused.append(f"keys[{number}]: {error}")
        except ValueError as error:
            problems.append(f"keys[{number}]: {error}")
    return problems + unused if len(unused) == len(keys) else problems
