"""A process with the authorization sessions of its streams, without any stream: for tests."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends.locmem import LocMemCache

from kafkaproxy.guards.authorization_sessions import AuthorizationSessions, StreamAuthorization
from kafkaproxy.guards.challenges import answer_challenge, is_challenge_answer
from kafkaproxy.guards.principals import ClientPrincipal, Principals, Refusal
from kafkaproxy.guards.renewals import Renewals
from kafkaproxy.http.problems import Problem
from kafkaproxy.http.request import Request
from kafkaproxy.routing.matching import Match, Refused
from tests.support.proxy import gateway, stream

__all__ = ["HTTP1", "HTTP2", "NOW", "OTHER_CONNECTION", "Process", "challenge", "who"]

NOW = 1_700_000_000.0
HTTP2 = {"http_version": "2", "client": ("192.0.2.1", 5001), "server": ("192.0.2.9", 443)}
OTHER_CONNECTION = {**HTTP2, "client": ("192.0.2.1", 5002)}
HTTP1 = {**HTTP2, "http_version": "1.1"}


class Process:
    """A process with its sessions; several share a cache or do not."""

    def __init__(self, cache: Any = None) -> None:
        self.now = NOW
        self.cache = cache or LocMemCache(f"cache-{id(self)}", {})
        clock = lambda: self.now  # noqa: E731
        self.sessions = AuthorizationSessions(renewals=Renewals(clock, self.cache), clock=clock)

    def open(self, principal: ClientPrincipal, scope: dict[str, Any] = HTTP2, wake: Any = None) -> StreamAuthorization:
        return self.sessions.open({"jwt": principal}, scope, wake or (lambda: None))

    async def answer(
        self, principal: ClientPrincipal | Refusal, scope: dict[str, Any] = HTTP2, signed: str | None = None, guard: str = "jwt"
    ) -> int:
        """Send an answer; return its status."""
        fields = [(b"content-type", b"application/x-challenge-response")]
        if signed is not None:
            fields.append((b"x-challenge-session", signed.encode("latin-1")))
        full = {"method": "POST", "scheme": "https", "raw_path": b"/events", "headers": fields, **scope}
        request = Request(full, None)  # type: ignore[arg-type]
        assert is_challenge_answer(request)
        known = isinstance(principal, ClientPrincipal)
        principals = Principals({guard: principal} if known else {}, {} if known else {guard: principal})  # type: ignore[dict-item]
        route = stream("/events", topic="events")
        one = gateway(route)
        outcome = await answer_challenge(request, Match(one, one.entries[0], route, {}, False), principals, self.sessions)
        if outcome is None:
            return 204
        return outcome.status if isinstance(outcome, Problem) else 401 if isinstance(outcome, Refused) else 0


def who(
    expires: float | None = 60, challenge: float | None = 50, roles: str = "a b", identity: str = "alice"
) -> ClientPrincipal:
    """Return a principal; times are seconds from NOW."""
    return ClientPrincipal(
        identity=identity,
        roles=frozenset(roles.split()),
        expires_at=None if expires is None else NOW + expires,
        challenge_at=None if challenge is None else NOW + challenge,
    )


async def challenge(stream: StreamAuthorization) -> str:
    """Take the challenge and return the signed id of its session."""
    event = await stream.challenge_event()
    assert event["method"] == "POST"
    assert event["headers"]["content-type"] == "application/x-challenge-response"
    signed: str = event["headers"]["x-challenge-session"]
    return signed
