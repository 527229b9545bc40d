"""What a guard is, and how kinds are found.

Another app adds a kind by registering a factory in its ``AppConfig.ready()``::

    from kafkaproxy.guards.base import register

    register("mtls", MutualTlsGuard)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from kafkaproxy.consumers.http import Request
from kafkaproxy.routing.matching import RolePrincipal
from kafkaproxy.routing.table import Credentials, GuardConfig

__all__ = ["Guard", "Guards", "register"]

log = logging.getLogger("kafkaproxy.guards")


class Guard(Protocol):
    """Authenticates requests. One instance serves all requests until its configuration changes."""

    async def authenticate(self, request: Request, credentials: Credentials | None) -> RolePrincipal | None:
        """Return who the client is; None without a valid credential. Never raise for what a client sent."""
        ...


Factory = Callable[[GuardConfig], Guard]
_kinds: dict[str, Factory] = {}


def register(kind: str, factory: Factory) -> None:
    """Make a kind known: ``factory`` takes the configuration; it raises ``ValueError`` for options it cannot use."""
    _kinds[kind] = factory


class Guards:
    """The guards of a configuration, by name."""

    def __init__(self, configs: Mapping[str, GuardConfig]) -> None:
        self._guards: dict[str, Guard] = {}
        for name, config in configs.items():
            factory = _kinds.get(config.kind)
            if factory is None:
                # A guard that cannot be evaluated refuses: what it protects must not become public.
                log.error("guard_kind_unknown guard=%s kind=%s", name, config.kind)
                continue
            try:
                self._guards[name] = factory(config)
            except ValueError:
                log.exception("guard_unusable guard=%s", name)

    async def authenticate(
        self, names: Iterable[str], request: Request, credentials: Mapping[str, Credentials]
    ) -> dict[str, RolePrincipal]:
        """Ask the named guards; return the principals of those that know the client."""
        principals: dict[str, RolePrincipal] = {}
        for name in names:
            guard = self._guards.get(name)
            principal = None if guard is None else await guard.authenticate(request, credentials.get(name))
            if principal is not None:
                principals[name] = principal
        return principals
