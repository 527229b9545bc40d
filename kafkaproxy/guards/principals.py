"""Clients as the guards that were asked know them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from kafkaproxy.routing.matching import RolePrincipal

__all__ = ["ANONYMOUS", "ClientPrincipal", "Principals", "Refusal"]


class Refusal(Enum):
    """Why a guard names no client."""

    MISSING = "missing"
    """There is no credential: 401."""
    INVALID = "invalid"
    """There is one, and it is not valid, or no longer: 401."""
    FORBIDDEN = "forbidden"
    """The credential is valid, and the request may come from a foreign page: the CSRF check failed. 403."""
    UNAVAILABLE = "unavailable"
    """It cannot be checked at the moment, for example because there are no keys: 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPrincipal:
    """A client with a valid credential. Times are seconds since the epoch; None: never."""

    identity: str
    """What expressions read as ``${guarded['GUARD'].identity}``; empty where the credential names none."""
    roles: frozenset[str] = frozenset()
    """What rules can require."""
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What expressions can read as ``${guarded['GUARD'].attributes.NAME}``."""
    expires_at: float | None = None
    """When the credential stops being valid: a stream ends then."""
    challenge_at: float | None = None
    """When a stream asks its client for a fresh credential."""
    renew: Callable[[], Awaitable[ClientPrincipal | None]] | None = field(default=None, repr=False, compare=False)
    """Asks again, without the client, whether the credential is still valid. None: only the client can bring a fresh one."""

    def holds(self, roles: Collection[str]) -> bool:
        """Whether the principal has every one of ``roles``."""
        return self.roles.issuperset(roles)


class Principals(Mapping[str, RolePrincipal]):
    """The principals by guard, the refusals of the other guards, and which guards were looked up: responses depend on those."""

    __slots__ = ("_found", "asked", "refusals")

    def __init__(self, found: Mapping[str, RolePrincipal], refusals: Mapping[str, Refusal]) -> None:
        self._found = found
        self.refusals = refusals
        self.asked: set[str] = set()
        """The guards that mattered so far."""

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
"""Where no guard was asked."""
