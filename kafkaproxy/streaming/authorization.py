"""A stream's side of continuous authorization: when it has to challenge its client, and when it is over."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Self

from kafkaproxy.core.expressions import Attribute
from kafkaproxy.guards.principals import ClientPrincipal
from kafkaproxy.guards.sessions import AuthorizationSessions
from kafkaproxy.routing.matching import Match
from kafkaproxy.routing.table import Route

__all__ = ["Authorized", "depended_on"]


def depended_on(match: Match, principals: Mapping[str, object]) -> dict[str, ClientPrincipal]:
    """Return whose credentials a stream depends on, each with the attributes that its templates read and no others.

    Guards that another route of the path asks for have no say in how long this one's stream lasts.
    """
    names = match.route.guard_names.union(each.guard for each in match.entry.guarded)
    found = {name: principals.get(name) for name in sorted(names)}
    return {
        name: replace(principal, attributes=_read(match.route, name, principal))
        for name, principal in found.items()
        if isinstance(principal, ClientPrincipal)
    }


def _read(route: Route, guard: str, principal: ClientPrincipal) -> dict[str, str]:
    templates = [route.topic]
    for each in route.filters:
        templates += [value for value in (each.key, *(value for _, value in each.headers)) if value is not None]
    parts = [part for template in templates for part in template.parts]
    names = {part.name for part in parts if isinstance(part, Attribute) and part.guard == guard}
    return {name: principal.attributes.get(name, "") for name in sorted(names)}


class Authorized:
    """Binds a stream to who its client is, inside a ``with``."""

    def __init__(
        self,
        sessions: AuthorizationSessions,
        principals: Mapping[str, object],
        scope: Mapping[str, Any],
        wake: Callable[[], None],
    ) -> None:
        self._clock = sessions.clock
        self._stream = sessions.open(principals, scope, wake)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stream.close()

    @property
    def ends(self) -> bool:
        """Whether the authorization has an end at all."""
        return self._stream.next_deadline() is not None

    def seconds_left(self) -> float:
        """Return the time until there is something to do; infinity for never."""
        due = self._stream.next_deadline()
        return math.inf if due is None else due - self._clock()

    async def challenges(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the challenges that this stream has to send now: one for each guard, at most."""
        if self.seconds_left() <= 0:
            while self._stream.take_challenge(self._clock()):
                yield await self._stream.challenge_event()

    async def is_over(self) -> bool:
        """Whether a credential has ended, and no answer has arrived here or elsewhere."""
        if not self._stream.expired(self._clock()):
            return False
        await self._stream.refresh()
        return self._stream.expired(self._clock())
