"""Principals: the clients that guards have authenticated, and why other guards have refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from kafkaproxy.routing.matching import RolePrincipal

__all__ = ["ANONYMOUS", "ClientPrincipal", "Principals", "Refusal"]


class Refusal(Enum):
    """Why a guard returns no principal."""

    MISSING = "missing"
    """The request has no credential."""
    INVALID = "invalid"
    """The credential is not valid, or not any more."""
    FORBIDDEN = "forbidden"
    """The client is known, but the CSRF check failed: another site may have caused the request."""
    UNAVAILABLE = "unavailable"
    """The credential cannot be checked now, for example because there are no keys to verify it with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPrincipal:
    """A client with a valid credential. Times are seconds since the epoch; None means never."""

    identity: str
    """Empty if the credential names none."""
    roles: frozenset[str] = frozenset()
    """What rules can require."""
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What expressions can read as ``${guarded['GUARD'].attributes.NAME}``."""
    expires_at: float | None = None
    """When the credential stops being valid: a stream ends then."""
    challenge_at: float | None = None
    """When a stream sends a challenge for a fresh credential."""
    renew: Callable[[], Awaitable[ClientPrincipal | None]] | None = field(default=None, repr=False, compare=False)
    """Checks the credential again without the client; None if only the client can send a fresh one."""

    def holds(self, roles: Collection[str]) -> bool:
        """True if the principal has all of ``roles``."""
        return self.roles.issuperset(roles)


class Principals(Mapping[str, RolePrincipal]):
    """The principals by guard; the refusals of the other guards; and which guards were looked up, for ``vary``."""

    __slots__ = ("_found", "asked", "refusals")

    def __init__(self, found: Mapping[str, RolePrincipal], refusals: Mapping[str, Refusal]) -> None:
        self._found = found
        self.refusals = refusals
        self.asked: set[str] = set()
        """The guards whose principal was looked up: the response depends on them."""

    def __getitem__(self, guard: str) -> RolePrincipal:
        self.asked.add(guard)
        return self._found[guard]

    def __contains__(self, guard: object) -> bool:
        return guard in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


ANONYMOUS: Final = Principals({}, {})
"""The principals of a request that no guard was asked about."""
