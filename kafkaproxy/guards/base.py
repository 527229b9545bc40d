"""What a guard is, and how kinds are found.

Another app adds a kind by registering a factory in its ``AppConfig.ready()``::

    from kafkaproxy.guards.base import register

    register("mtls", MutualTlsGuard)

A factory that has a ``check`` is asked about the options whenever a guard is saved.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

from django.core.exceptions import ValidationError
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from kafkaproxy.guards.credentials import NOWHERE, Places
from kafkaproxy.guards.options import OptionError, suggest
from kafkaproxy.guards.principals import Principals, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.routing.matching import RolePrincipal
from kafkaproxy.routing.table import Gateway, GuardConfig

__all__ = ["Guard", "Guards", "check_guard", "kinds", "register"]

log = logging.getLogger("kafkaproxy.guards")


class Guard(Protocol):
    """Authenticates requests. One instance serves all requests until its configuration changes."""

    fields: tuple[str, ...] | None
    """The request fields that it reads by itself; None: those of the credential's place."""
    scheme: str | None
    """What ``www-authenticate`` asks for; None: the scheme of the credential's place."""

    async def authenticate(self, request: Request, credential: str | None) -> RolePrincipal | Refusal:
        """Return who the client is, or why nobody knows. Never raise for what a client sent.

        ``credential`` is what the gateway's templates found; an empty one is never valid.
        """
        ...


Factory = Callable[[GuardConfig], Guard]

_kinds: dict[str, Factory | str] = {
    "jwt": "kafkaproxy.guards.jwt.JwtGuard",
    "session": "kafkaproxy.guards.session.SessionGuard",
    "simplejwt": "kafkaproxy.guards.simplejwt.SimpleJwtGuard",
}
"""The kinds; ours are imported when one is used."""


def register(kind: str, factory: Factory) -> None:
    """Make a kind known: ``factory`` takes the configuration; it raises ``ValueError`` for options it cannot use."""
    _kinds[kind] = factory


def kinds() -> list[str]:
    """Return the kinds that are known."""
    return sorted(_kinds)


def check_guard(kind: str, options: Mapping[str, Any]) -> None:
    """Raise ``ValidationError`` for a kind that nobody knows, or for options that it cannot use."""
    factory = _factory(kind)
    if factory is None:
        message = _("%(kind)s is not a kind of guard.") % {"kind": kind}
        raise ValidationError({"kind": f"{message} {suggest(kind, _kinds)}"})
    check: Callable[[Mapping[str, Any]], None] | None = getattr(factory, "check", None)
    if check is not None:
        try:
            check(options)
        except OptionError as error:
            raise ValidationError({"options": error.problems}) from None


def _factory(kind: str) -> Factory | None:
    known = _kinds.get(kind)
    return import_string(known) if isinstance(known, str) else known


_BEARER_SCHEME: Final = "Bearer"
GuardT = TypeVar("GuardT")


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

    async def authenticate(
        self, names: Iterable[str], request: Request, gateway: Gateway, impersonated: Mapping[str, RolePrincipal] | None = None
    ) -> Principals:
        """Ask the named guards, with the credential that stands where the gateway says.

        A guard that is in ``impersonated`` is not asked: the principal there counts.
        """
        found: dict[str, RolePrincipal] = {}
        refusals: dict[str, Refusal] = {}
        for name in names:
            answer = (impersonated.get(name) if impersonated else None) or await self._ask(name, request, gateway)
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

    def instances(self, kind: type[GuardT]) -> dict[str, GuardT]:
        """Return the guards that are instances of a class, by name."""
        return {name: guard for name, (_config, guard) in self._made.items() if isinstance(guard, kind)}

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
    factory = _factory(config.kind)
    if factory is None:
        log.error("guard_kind_unknown guard=%s kind=%s", config.name, config.kind)
        return None
    try:
        return factory(config)
    except (ValueError, ImportError) as error:
        log.error("guard_unusable guard=%s error=%s", config.name, error)
        return None
