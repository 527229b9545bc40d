"""Continuous authorization of one stream: when to send a challenge, and when the authorization has ended."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Self

from kafkaproxy.core.expressions import Attribute
from kafkaproxy.guards.authorization_sessions import AuthorizationSessions
from kafkaproxy.guards.principals import ClientPrincipal
from kafkaproxy.routing.matching import Match
from kafkaproxy.routing.table import Route

__all__ = ["StreamCredentials", "required_principals"]


def required_principals(match: Match, principals: Mapping[str, object]) -> dict[str, ClientPrincipal]:
    """Return the principals of the guards that the route and its entry require or read, by guard.

    Each has only the attributes that the route's templates read. Guards of other routes of the path are left out: the end of
    their credentials must not end this stream.
    """
    names = match.route.guard_names.union(each.guard for each in match.entry.guarded)
    found = {name: principals.get(name) for name in sorted(names)}
    return {
        name: replace(principal, attributes=_attributes_read(match.route, name, principal))
        for name, principal in found.items()
        if isinstance(principal, ClientPrincipal)
    }


def _attributes_read(route: Route, guard: str, principal: ClientPrincipal) -> dict[str, str]:
    templates = [route.topic]
    for each in route.filters:
        templates += [value for value in (each.key, *(value for _, value in each.headers)) if value is not None]
    parts = [part for template in templates for part in template.parts]
    names = {part.name for part in parts if isinstance(part, Attribute) and part.guard == guard}
    return {name: principal.attributes.get(name, "") for name in sorted(names)}


class StreamCredentials:
    """The credentials of a stream's client. A context manager: at its end the stream leaves its authorization sessions."""

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
    def has_end(self) -> bool:
        """True if any credential has an end."""
        return self._stream.next_deadline() is not None

    def seconds_left(self) -> float:
        """Return the seconds until the next challenge or end; infinity for never."""
        due = self._stream.next_deadline()
        return math.inf if due is None else due - self._clock()

    async def challenges(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the data of the challenges that this stream has to send now: at most one per guard."""
        if self.seconds_left() <= 0:
            while self._stream.claim_challenge(self._clock()):
                yield await self._stream.challenge_event()

    async def is_over(self) -> bool:
        """True if a credential has ended, and no challenge response for it has arrived in any process."""
        if not self._stream.expired(self._clock()):
            return False
        await self._stream.refresh()
        return self._stream.expired(self._clock())
