"""Who a client is, as far as the guards that were asked can say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from kafkaproxy.routing.matching import RolePrincipal

__all__ = ["ANONYMOUS", "ClientPrincipal", "Principals", "Refusal"]


class Refusal(Enum):
    """Why a guard does not name a client."""

    MISSING = "missing"
    """There is no credential."""
    INVALID = "invalid"
    """There is one, and it is not valid (any more)."""
    FORBIDDEN = "forbidden"
    """The client is known, and this request could be somebody else's doing: the CSRF check failed."""
    UNAVAILABLE = "unavailable"
    """Nobody can tell at the moment: there are no keys to verify with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPrincipal:
    """A client with a valid credential. Times are seconds since the epoch; None: never."""

    identity: str
    """Empty where the credential names none."""
    roles: frozenset[str] = frozenset()
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    expires_at: float | None = None
    """When the credential stops being valid: a stream ends then."""
    challenge_at: float | None = None
    """When a stream asks for a fresh credential."""
    renew: Callable[[], Awaitable[ClientPrincipal | None]] | None = field(default=None, repr=False, compare=False)
    """Asks again, without the client, whether the credential is still valid; None where only the client can bring a new one."""

    def holds(self, roles: Collection[str]) -> bool:
        """Whether the principal has every one of ``roles``."""
        return self.roles.issuperset(roles)


class Principals(Mapping[str, RolePrincipal]):
    """The principals by guard, why the other guards name none, and who was looked up: what an answer depends on."""

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
