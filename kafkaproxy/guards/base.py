"""What a guard is, and the guards of a configuration."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final, Protocol, TypeVar

from kafkaproxy.guard_kinds import find_factory
from kafkaproxy.guards.credentials import NO_LOCATIONS, CredentialLocations
from kafkaproxy.guards.principals import Principals, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.routing.matching import RolePrincipal
from kafkaproxy.routing.table import Gateway, GuardConfig

__all__ = ["ConfiguredGuards", "GuardBackend"]

log = logging.getLogger("kafkaproxy.guards")


class GuardBackend(Protocol):
    """Authenticates requests. One instance serves all requests until its configuration changes."""

    fields: tuple[str, ...] | None
    """The request fields that it reads by itself; None for those of the credential's location."""
    scheme: str | None
    """The scheme for ``www-authenticate``; None for that of the credential's location."""

    async def authenticate(self, request: Request, credential: str | None) -> RolePrincipal | Refusal:
        """Return the client's principal, or why there is none. Must not raise for anything that a client can send.

        ``credential``: what the gateway's templates found; None without one. An empty credential is never valid.
        """
        ...


_BEARER_SCHEME: Final = "Bearer"
GuardT = TypeVar("GuardT")


class ConfiguredGuards:
    """The guards of a configuration, by name.

    A guard whose configuration did not change is taken from ``last``, with its keys and its credential cache.
    """

    def __init__(
        self, configs: Mapping[str, GuardConfig], gateways: Iterable[Gateway] = (), last: ConfiguredGuards | None = None
    ) -> None:
        self._guards: dict[str, tuple[GuardConfig, GuardBackend]] = {}
        for name, config in configs.items():
            previous = None if last is None else last._guards.get(name)  # noqa: SLF001 - of one class
            guard = previous[1] if previous is not None and previous[0] == config else _build(config)
            if guard is not None:
                self._guards[name] = config, guard
        self._locations = {
            (each.name, each.credentials.guard): CredentialLocations(each.credentials)
            for each in gateways
            if each.credentials is not None
        }

    async def authenticate(
        self, names: Iterable[str], request: Request, gateway: Gateway, impersonated: Mapping[str, RolePrincipal] | None = None
    ) -> Principals:
        """Authenticate the request by each named guard. The gateway says where the credential stands.

        A guard that is in ``impersonated`` is not asked: the principal there counts.
        """
        found: dict[str, RolePrincipal] = {}
        refusals: dict[str, Refusal] = {}
        for name in names:
            answer = (impersonated.get(name) if impersonated else None) or await self._ask(name, request, gateway)
            if isinstance(answer, Refusal):
                refusals[name] = answer
            elif answer is not None:  # a kind of another app may break the interface and return None
                found[name] = answer
        return Principals(found, refusals)

    async def _ask(self, name: str, request: Request, gateway: Gateway) -> RolePrincipal | Refusal | None:
        configured = self._guards.get(name)
        if configured is None:  # a guard that cannot be evaluated refuses: what it protects must not become public
            return Refusal.MISSING
        try:
            return await configured[1].authenticate(request, self._location(name, gateway).find(request))
        except Exception:
            log.exception("guard_failed guard=%s", name)
            return Refusal.UNAVAILABLE

    def instances(self, kind: type[GuardT]) -> dict[str, GuardT]:
        """Return the guards that are instances of a class, by name."""
        return {name: guard for name, (_config, guard) in self._guards.items() if isinstance(guard, kind)}

    def varies_on(self, names: Iterable[str], gateway: Gateway) -> list[str]:
        """Return the names of the request fields that the outcome of these guards depends on, for ``vary``."""
        fields: dict[str, None] = {}
        for name in sorted(names):
            configured = self._guards.get(name)
            if configured is not None:
                own = configured[1].fields
                fields |= dict.fromkeys(self._location(name, gateway).fields if own is None else own)
        return list(fields)

    def challenges(self, names: Iterable[str], gateway: Gateway, *, invalid: bool) -> list[tuple[bytes, bytes]]:
        """Return the ``www-authenticate`` fields of the guards that refused (RFC 9110 section 11.6.1, RFC 6750 section 3)."""
        schemes = {scheme for name in names if (scheme := self._scheme(name, gateway))} or {_BEARER_SCHEME}
        error = ', error="invalid_token"' if invalid else ""
        return [
            (b"www-authenticate", f'{scheme} realm="{gateway.name}"{error if scheme == _BEARER_SCHEME else ""}'.encode())
            for scheme in sorted(schemes)
        ]

    def _scheme(self, name: str, gateway: Gateway) -> str | None:
        configured = self._guards.get(name)
        return None if configured is None else configured[1].scheme or self._location(name, gateway).scheme

    def _location(self, name: str, gateway: Gateway) -> CredentialLocations:
        return self._locations.get((gateway.name, name), NO_LOCATIONS)


def _build(config: GuardConfig) -> GuardBackend | None:
    factory = find_factory(config.kind)
    if factory is None:
        log.error("guard_kind_unknown guard=%s kind=%s", config.name, config.kind)
        return None
    try:
        backend: GuardBackend = factory(config)
    except (ValueError, ImportError) as error:
        log.error("guard_unusable guard=%s error=%s", config.name, error)
        return None
    return backend
