"""How long a stream is authorized, and how a fresh credential prolongs that (the contract, *Continuous authorization*).

Streams of one HTTP/2 connection with the same guard and identity share a session, so one challenge and one response serve all
of them. Any other session belongs to one stream; the challenge response names it by the signed id in the challenge. Nothing
here waits: the stream does, until :meth:`StreamAuthorization.next_deadline`.
"""

from __future__ import annotations

import functools
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kafkaproxy.guards.principals import ClientPrincipal
from kafkaproxy.guards.renewals import Renewals, SessionState

__all__ = ["CHALLENGE_RESPONSE", "CHALLENGE_SESSION", "AuthorizationSession", "AuthorizationSessions", "StreamAuthorization"]

log = logging.getLogger("kafkaproxy.guards")

CHALLENGE_RESPONSE: Final = "application/x-challenge-response"
CHALLENGE_SESSION: Final = "x-challenge-session"

Connection = tuple[Any, ...]
SharedKey = tuple[Connection, str, str]
"""Connection, guard, identity."""
Wake = Callable[[], None]


class AuthorizationSession:
    """A client's authorization by one guard. Times are seconds since the epoch; None means never."""

    __slots__ = (
        *("attributes", "challenge_at", "expires_at", "guard", "id", "identity", "key", "renew", "roles", "streams"),
        "challenge_holder",
    )

    def __init__(self, guard: str, principal: ClientPrincipal, key: SharedKey | None) -> None:
        self.id = secrets.token_hex(16)
        self.guard = guard
        self.key = key
        """Under which streams of the connection find it; None for a session of one stream."""
        self.identity = principal.identity
        self.attributes = principal.attributes
        self.streams: list[StreamAuthorization] = []
        self.challenge_holder: StreamAuthorization | None = None
        """The stream that sends the challenge for the current credential; None if none has claimed it."""
        self._apply(principal)

    def _apply(self, principal: ClientPrincipal) -> None:
        self.roles = principal.roles
        self.expires_at = principal.expires_at
        # A client without identity cannot prove that it is the same: its stream ends without a challenge, as in the reference.
        self.challenge_at = principal.challenge_at if self.identity else None
        self.renew = principal.renew
        self.challenge_holder = None

    @property
    def state(self) -> SessionState:
        """The state that a fresh credential is compared with."""
        return SessionState(self.guard, self.identity, self.roles, self.expires_at, self.attributes)

    def prolong(self, principal: ClientPrincipal) -> bool:
        """Continue with a fresh credential; return False if it is another client's, lacks a role, or does not end later."""
        if not self.state.accepts(principal):
            return False
        self._apply(principal)
        for stream in self.streams:
            stream.wake()
        return True

    def join(self, principal: ClientPrincipal) -> bool:
        """Let a stream with this credential share the session; return False if it has to have its own.

        The credential has to grant at least the session's roles; a later end prolongs the session. A credential with more roles
        and an earlier end does not fit: the stream would keep those roles for too long.
        """
        if self.attributes != principal.attributes:
            return False
        if self.prolong(principal) or self.roles == principal.roles:
            return True
        if self.roles < principal.roles and self.expires_at == principal.expires_at:
            self.roles = principal.roles
            return True
        return False

    def deadline(self) -> float | None:
        """Return the time of the next challenge, or of the end if the challenge was claimed or there is none."""
        due = self.challenge_at if self.challenge_holder is None else None
        return self.expires_at if due is None else due

    def expired(self, now: float) -> bool:
        """True if the authorization has ended."""
        return self.expires_at is not None and now >= self.expires_at

    def is_due(self, now: float) -> bool:
        """True if a stream may claim the challenge now."""
        return (
            self.challenge_holder is None
            and self.challenge_at is not None
            and self.challenge_at <= now
            and not self.expired(now)
        )


class StreamAuthorization:
    """The sessions of one stream: one for each guard that authenticated the client."""

    def __init__(self, registry: AuthorizationSessions, sessions: list[AuthorizationSession], wake: Wake) -> None:
        self._registry = registry
        self._sessions = sessions
        self._claimed: list[AuthorizationSession] = []
        self.wake = wake

    def next_deadline(self) -> float | None:
        """Return the time of the next challenge or end, in seconds since the epoch; None for never."""
        return min((due for each in self._sessions if (due := each.deadline()) is not None), default=None)

    def claim_challenge(self, now: float) -> bool:
        """Claim a challenge that is due; return False if there is none. Call until False: there is one per guard."""
        session = next((each for each in self._sessions if each.is_due(now)), None)
        if session is None:
            return False
        session.challenge_holder = self
        self._claimed.append(session)
        return True

    async def challenge_event(self) -> dict[str, Any]:
        """Return the data of the challenge claimed last, and announce its session to all processes."""
        session = self._claimed.pop()
        signed = await self._registry.renewals.announce(session.id, session.state)
        return {"method": "POST", "headers": {"content-type": CHALLENGE_RESPONSE, CHALLENGE_SESSION: signed}}

    async def refresh(self) -> None:
        """Renew the sessions that have ended: by guards that can check again, or by responses that other processes received."""
        now = self._registry.clock()
        for session in self._sessions:
            if session.expired(now):
                await self._refresh(session)

    async def _refresh(self, session: AuthorizationSession) -> None:
        try:
            fetch = session.renew or functools.partial(self._registry.renewals.fetch, session.id)
            principal = await fetch()
        except Exception:
            log.exception("guard_failed guard=%s", session.guard)  # the session stays expired, so the stream ends
            return
        if principal is not None and session.expired(self._registry.clock()) and not session.prolong(principal):
            log.info("renewal_refused guard=%s", session.guard)

    def expired(self, now: float) -> bool:
        """True if any session has ended: the stream must send nothing more."""
        return any(each.expired(now) for each in self._sessions)

    def close(self) -> None:
        """Leave the sessions. If this stream holds an unanswered challenge, another stream of the session gets it."""
        for session in self._sessions:
            if self in session.streams:
                session.streams.remove(self)
            if session.challenge_holder is self:
                session.challenge_holder = None
                for stream in session.streams:
                    stream.wake()
        self._registry.drop([each for each in self._sessions if not each.streams])
        self._sessions = []


class AuthorizationSessions:
    """The authorization sessions of the streams of this process. For one event loop."""

    def __init__(self, *, renewals: Renewals | None = None, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.renewals = renewals or Renewals(clock)
        self._shared: dict[SharedKey, list[AuthorizationSession]] = {}
        self._by_id: dict[str, AuthorizationSession] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def open(
        self, principals: Mapping[str, object], scope: Mapping[str, Any], wake: Wake = lambda: None
    ) -> StreamAuthorization:
        """Open the sessions of a stream. The principals' attributes are those that the stream's templates read.

        ``wake`` is called when :meth:`StreamAuthorization.next_deadline` has changed.
        """
        connection = connection_of(scope)
        sessions = [
            self._session(connection, guard, principal)
            for guard, principal in principals.items()
            if isinstance(principal, ClientPrincipal) and principal.expires_at is not None
        ]
        stream = StreamAuthorization(self, sessions, wake)
        for session in sessions:
            session.streams.append(stream)
        return stream

    def _session(self, connection: Connection | None, guard: str, principal: ClientPrincipal) -> AuthorizationSession:
        """Return a session of the connection that the credential may share; else a new one."""
        alone = connection is None or not principal.identity or principal.renew is not None
        key = None if alone or connection is None else (connection, guard, principal.identity)
        if key is not None:
            for each in self._shared.get(key, ()):
                if each.join(principal):
                    return each
        session = AuthorizationSession(guard, principal, key)
        self._by_id[session.id] = session
        if key is not None:
            self._shared.setdefault(key, []).append(session)
        return session

    def drop(self, sessions: list[AuthorizationSession]) -> None:
        """Remove sessions that have no stream any more."""
        for session in sessions:
            self._by_id.pop(session.id, None)
            if session.key is not None:
                shared = self._shared[session.key]
                shared.remove(session)
                if not shared:
                    del self._shared[session.key]

    def of_id(self, session_id: str) -> AuthorizationSession | None:
        """Return the session of this process with that id; None without one."""
        return self._by_id.get(session_id)

    def of_connection(self, scope: Mapping[str, Any], guard: str, identity: str) -> Sequence[AuthorizationSession]:
        """Return the sessions of the client's streams on that connection: several only if its credentials differ in roles."""
        connection = connection_of(scope)
        return () if connection is None else self._shared.get((connection, guard, identity), ())


def connection_of(scope: Mapping[str, Any]) -> Connection | None:
    """Return what identifies an HTTP/2 connection; None for HTTP/1.1, where a connection has one stream at a time."""
    client = scope.get("client")
    if not client or not str(scope.get("http_version", "")).startswith(("2", "3")):
        return None
    return (*client, *(scope.get("server") or ()))
