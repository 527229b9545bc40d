"""Challenge responses: a POST without a body to a stream's path, with a fresh credential.

The contract, *Continuous authorization*. The reference answers 204 to every such request (D25).
"""

from __future__ import annotations

import logging

from kafkaproxy.guards.authorization_sessions import CHALLENGE_RESPONSE, CHALLENGE_SESSION, AuthorizationSessions
from kafkaproxy.guards.principals import ClientPrincipal, Principals
from kafkaproxy.guards.renewals import RenewalsUnavailable
from kafkaproxy.http.problems import Problem
from kafkaproxy.http.request import Request
from kafkaproxy.routing.matching import Match, Refused

__all__ = ["answer_challenge", "is_challenge_answer"]

log = logging.getLogger("kafkaproxy.guards")


def is_challenge_answer(request: Request) -> bool:
    """True for a challenge response. A request with a body is none, so that no body is discarded."""
    return (
        request.method == "POST"
        and request.lines(b"content-type") == [CHALLENGE_RESPONSE]
        and request.field(b"content-length") in (None, b"0")
        and request.field(b"transfer-encoding") is None
    )


async def answer_challenge(
    request: Request, match: Match, principals: Principals, sessions: AuthorizationSessions
) -> Problem | Refused | None:
    """Prolong the sessions that a challenge response is for. Return None if that was done (204); else nothing has changed.

    ``match`` is the stream that a GET of the path would open; ``principals`` are those of the challenge response (D25, D26).
    """
    signed = request.field(CHALLENGE_SESSION.encode())
    if signed is None:
        return _answer_on_connection(request, match, principals, sessions)
    try:
        return await _answer_by_id(signed.decode("latin-1"), match, principals, sessions)
    except RenewalsUnavailable:
        return Problem(503, "challenge-undecided", "The answer could not be passed on. Send it again.")


def _answer_on_connection(
    request: Request, match: Match, principals: Principals, sessions: AuthorizationSessions
) -> Problem | Refused | None:
    clients = _clients(principals)
    if not clients:
        return Refused(match.gateway, frozenset(principals.refusals))
    prolonged = False
    for guard, principal in clients.items():
        for session in sessions.of_connection(request.scope, guard, principal.identity):
            prolonged |= not session.expired(sessions.clock()) and session.prolong(principal)
    return None if prolonged else _refused("No stream of this client on this connection goes on with this credential.")


async def _answer_by_id(
    signed: str, match: Match, principals: Principals, sessions: AuthorizationSessions
) -> Problem | Refused | None:
    session_id = sessions.renewals.verify(signed)
    local = None if session_id is None else sessions.of_id(session_id)
    if session_id is None:
        return _refused(f"{CHALLENGE_SESSION} is not one of this site's.")
    state = await sessions.renewals.state(session_id) if local is None else local.state
    if state is None or (state.expires_at is not None and state.expires_at <= sessions.clock()):
        return _refused("The stream of this challenge is over, or is served by a process that shares no cache with this one.")
    principal = _clients(principals).get(state.guard)
    if principal is None:
        return Refused(match.gateway, frozenset({state.guard}))
    if not state.accepts(principal):
        return _refused("The credential is not the same client's, grants less, or does not last longer than the last one.")
    if local is None:
        await sessions.renewals.publish(session_id, state, principal)
    else:
        local.prolong(principal)
    return None


def _clients(principals: Principals) -> dict[str, ClientPrincipal]:
    return {guard: each for guard, each in principals.items() if isinstance(each, ClientPrincipal)}


def _refused(detail: str) -> Problem:
    return Problem(403, "challenge-refused", f"{detail} Nothing has changed.")
