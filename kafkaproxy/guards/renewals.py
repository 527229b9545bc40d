"""Share authorization sessions between processes: by a signed session id, and through Django's cache ``default``.

The process that receives a challenge response reads the session from the cache, and writes the renewal there for the process
of the stream. With a cache that processes do not share (Django's default) this works within a process only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.core import signing
from django.core.cache import BaseCache, caches

from kafkaproxy.guards.principals import ClientPrincipal

__all__ = ["Renewals", "RenewalsUnavailable", "SessionState"]

log = logging.getLogger("kafkaproxy.guards")

_SALT: Final = "kafkaproxy.challenge"
_GRACE_SECONDS: Final = 60
"""How much longer than needed entries stay in the cache."""
_LONGEST_SECONDS: Final = 7 * 24 * 3600
_CACHE_TIMEOUT_SECONDS: Final = 5.0
"""How long a cache operation may take: a stream sends nothing while it waits for one."""


class RenewalsUnavailable(Exception):
    """The cache has failed or timed out."""


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session that a fresh credential is compared with."""

    guard: str
    identity: str
    roles: frozenset[str]
    expires_at: float | None
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The attributes that the streams' templates read, so that their records depend on them. A missing one is empty."""

    def accepts(self, principal: ClientPrincipal) -> bool:
        """True if a fresh credential prolongs the session (D25): same client, all of its roles, a later end."""
        return (
            self.identity == principal.identity
            and principal.roles >= self.roles
            and self.expires_at is not None
            and (principal.expires_at is None or principal.expires_at > self.expires_at)
            and all(principal.attributes.get(name, "") == value for name, value in self.attributes.items())
        )


class Renewals:
    """Reads and writes sessions and renewals in the cache."""

    def __init__(self, clock: Callable[[], float] = time.time, cache: BaseCache | None = None) -> None:
        self._clock = clock
        self._given = cache

    @property
    def _cache(self) -> BaseCache:
        return self._given or caches["default"]

    async def announce(self, session_id: str, state: SessionState) -> str:
        """Write the session to the cache, and return its signed id. If the cache fails, only this process knows it."""
        try:
            await self._put("session", session_id, _packed(state), state.expires_at)
        except RenewalsUnavailable:
            log.warning("session_not_announced guard=%s", state.guard)
        return signing.Signer(salt=_SALT).sign(session_id)

    def verify(self, signed: str) -> str | None:
        """Return the session id of a signed id; None if the signature is not valid."""
        try:
            return signing.Signer(salt=_SALT).unsign(signed)
        except signing.BadSignature:
            return None

    async def state(self, session_id: str) -> SessionState | None:
        """Return a session of any process, None without one; raise :class:`RenewalsUnavailable`."""
        found = await self._get("session", session_id)
        return None if found is None else _unpacked(found)

    async def publish(self, session_id: str, state: SessionState, principal: ClientPrincipal) -> None:
        """Write a renewal for the process of the stream; raise :class:`RenewalsUnavailable`."""
        attributes = {name: principal.attributes.get(name, "") for name in state.attributes}
        renewed = SessionState(state.guard, principal.identity, principal.roles, principal.expires_at, attributes)
        value = _packed(renewed) | {"challenge": principal.challenge_at}
        await self._put("renewal", session_id, value, principal.expires_at)
        await self._put("session", session_id, _packed(renewed), principal.expires_at)

    async def fetch(self, session_id: str) -> ClientPrincipal | None:
        """Return the renewal of a session; None without one, or if the cache fails."""
        try:
            found = await self._get("renewal", session_id)
        except RenewalsUnavailable:
            return None
        state = None if found is None else _unpacked(found)
        if state is None:
            return None
        return ClientPrincipal(
            identity=state.identity,
            roles=state.roles,
            attributes=state.attributes,
            expires_at=state.expires_at,
            challenge_at=found.get("challenge"),
        )

    async def _get(self, kind: str, session_id: str) -> Any:
        return await _with_timeout(self._cache.aget(_key(kind, session_id)))

    async def _put(self, kind: str, session_id: str, value: dict[str, Any], needed_until: float | None) -> None:
        left = _LONGEST_SECONDS if needed_until is None else needed_until - self._clock()
        timeout = int(min(max(left, 0), _LONGEST_SECONDS)) + _GRACE_SECONDS
        await _with_timeout(self._cache.aset(_key(kind, session_id), value, timeout))


async def _with_timeout(work: Awaitable[Any]) -> Any:
    """Await a cache operation; raise :class:`RenewalsUnavailable` if it fails or takes too long."""
    try:
        async with asyncio.timeout(_CACHE_TIMEOUT_SECONDS):
            return await work
    except Exception as error:
        log.exception("cache_failed")
        raise RenewalsUnavailable from error


def _key(kind: str, session_id: str) -> str:
    return f"kafkaproxy:{kind}:{session_id}"


def _packed(state: SessionState) -> dict[str, Any]:
    return {
        "guard": state.guard,
        "identity": state.identity,
        "roles": sorted(state.roles),
        "end": state.expires_at,
        "attributes": dict(state.attributes),
    }


def _unpacked(found: Any) -> SessionState | None:
    """Return the session of a cache entry; None for an entry of another version."""
    try:
        roles, attributes = frozenset(found["roles"]), dict(found["attributes"])
        return SessionState(found["guard"], found["identity"], roles, found["end"], attributes)
    except (KeyError, TypeError, ValueError):
        return None
