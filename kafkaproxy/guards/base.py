"""What a guard is, and the guards of a configuration."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from kafkaproxy.guard_kinds import find_factory
from kafkaproxy.guards.credentials import NOWHERE, Places
from kafkaproxy.guards.principals import Principals, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.routing.matching import RolePrincipal
from kafkaproxy.routing.table import Gateway, GuardConfig

__all__ = ["Guard", "Guards"]

log = logging.getLogger("kafkaproxy.guards")


class Guard(Protocol):
    """Authenticates requests. One instance serves all requests of a process until its configuration changes."""

    fields: tuple[str, ...] | None
    """The request fields that it reads by itself, in lower case: responses name them in ``vary``. None: those of the place
    where the gateway looks for the credential."""
    scheme: str | None
    """What ``www-authenticate`` asks for. None: the scheme of that place, such as ``Bearer``."""

    async def authenticate(self, request: Request, credential: str | None) -> RolePrincipal | Refusal:
        """Return the client (a :class:`ClientPrincipal`), or why there is none. Never raise for what a client sent.

        ``credential`` is what the gateway's templates found: None where there is nothing, and an empty one is never valid. What
        is raised is logged and answered 503.
        """
        ...


_BEARER_SCHEME: Final = "Bearer"


class Guards:
    """The guards of a configuration, by name.

    A guard whose configuration did not change is taken over from the ``last`` ones, with the keys and the verified credentials
    that it holds.
    """

    def __init__(
        self, configs: Mapping[str, GuardConfig], gateways: Iterable[Gateway] = (), last: Guards | None = None
    ) -> None:
        self._made: dict[str, tuple[GuardConfig, Guard]] = {}
        for name, config in configs.items():
            known = None if last is None else last._made.get(name)  # noqa: SLF001 - of one class
            guard = known[1] if known is not None and known[0] == config else _make(config)
            if guard is not None:
                self._made[name] = config, guard
        self._places = {
            (each.name, each.credentials.guard): Places(each.credentials) for each in gateways if each.credentials is not None
        }

    async def authenticate(self, names: Iterable[str], request: Request, gateway: Gateway) -> Principals:
        """Ask the named guards, with the credential that stands where the gateway says."""
        found: dict[str, RolePrincipal] = {}
        refusals: dict[str, Refusal] = {}
        for name in names:
            answer = await self._ask(name, request, gateway)
            if isinstance(answer, Refusal):
                refusals[name] = answer
            elif answer is not None:  # a kind of another app may say nothing at all
                found[name] = answer
        return Principals(found, refusals)

    async def _ask(self, name: str, request: Request, gateway: Gateway) -> RolePrincipal | Refusal | None:
        made = self._made.get(name)
        if made is None:  # a guard that cannot be evaluated refuses: what it protects must not become public
            return Refusal.MISSING
        try:
            return await made[1].authenticate(request, self._place(name, gateway).find(request))
        except Exception:
            log.exception("guard_failed guard=%s", name)
            return Refusal.UNAVAILABLE

    def varies_on(self, names: Iterable[str], gateway: Gateway) -> list[str]:
        """Return the request fields that the answers of these guards depend on."""
        fields: dict[str, None] = {}
        for name in sorted(names):
            made = self._made.get(name)
            if made is not None:
                own = made[1].fields
                fields |= dict.fromkeys(self._place(name, gateway).fields if own is None else own)
        return list(fields)

    def challenges(self, names: Iterable[str], gateway: Gateway, *, invalid: bool) -> list[tuple[bytes, bytes]]:
        """Return ``www-authenticate`` for the guards that refused (RFC 9110 section 11.6.1, RFC 6750 section 3)."""
        schemes = {scheme for name in names if (scheme := self._scheme(name, gateway))} or {_BEARER_SCHEME}
        error = ', error="invalid_token"' if invalid else ""
        return [
            (b"www-authenticate", f'{scheme} realm="{gateway.name}"{error if scheme == _BEARER_SCHEME else ""}'.encode())
            for scheme in sorted(schemes)
        ]

    def _scheme(self, name: str, gateway: Gateway) -> str | None:
        made = self._made.get(name)
        return None if made is None else made[1].scheme or self._place(name, gateway).scheme

    def _place(self, name: str, gateway: Gateway) -> Places:
        return self._places.get((gateway.name, name), NOWHERE)


def _make(config: GuardConfig) -> Guard | None:
    factory = find_factory(config.kind)
    if factory is None:
        log.error("guard_kind_unknown guard=%s kind=%s", config.name, config.kind)
        return None
    try:
        guard: Guard = factory(config)
    except (ValueError, ImportError) as error:
        log.error("guard_unusable guard=%s error=%s", config.name, error)
        return None
    return guard
