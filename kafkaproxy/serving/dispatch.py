"""From a request whose path a route matches to who answers it: preflights, guards, challenges, a consumer, or a refusal."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING

from kafkaproxy import metrics
from kafkaproxy.conf import csrf_field, get_settings
from kafkaproxy.consumers.context import Observer
from kafkaproxy.core.cors import with_vary
from kafkaproxy.guards.challenges import answer_challenge, is_challenge_answer
from kafkaproxy.guards.principals import ANONYMOUS, Principals, Refusal
from kafkaproxy.http.cors import adorned, is_preflight, requested_method
from kafkaproxy.http.problems import Problem, retry_after
from kafkaproxy.http.request import Receive, Request, Responder, Scope, Send
from kafkaproxy.routing.matching import Found, Match, NotAllowed, Refused
from kafkaproxy.routing.table import Capability, Gateway
from kafkaproxy.serving.fast_path import lane

if TYPE_CHECKING:
    from kafkaproxy.serving.response_cache import Plan
    from kafkaproxy.serving.runtime import Runtime, Table

__all__ = ["follow", "serve"]


async def serve(
    running: Runtime, table: Table, candidates: list[Found], request: Request, send: Send, observer: Observer | None = None
) -> bool:
    """Serve a request that a route's path matches; return False where the gateways' entries leave it to the site.

    With an ``observer`` nothing is kept for later requests of the same line.
    """
    if is_preflight(request):
        return await _preflight(table, candidates, request, send)
    if is_challenge_answer(request) and (streams := _streams(candidates)) and table.matcher.guards(streams):
        return await _answer(running, table, streams, request, send, observer)
    outcome, principals = await table.decide(candidates, request, observer=observer)
    if isinstance(outcome, Match):
        keep = observer is None and table.matcher.is_plain(candidates)
        if keep and table.matcher.is_simple(candidates) and request.method != "OPTIONS":
            table.plans.keep(request.scope, outcome)
        await run(running, table, outcome, principals, request, send, keep=keep, observer=observer)
    elif outcome is not None:
        await _refuse(table, outcome, principals, request, send)
    return outcome is not None


def follow(running: Runtime, table: Table, plan: Plan, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """Serve a request as an earlier one of its method and path was; await what this returns."""
    if plan.lane is not None:
        return plan.lane.serve(scope, receive, send)
    if not plan.has_come_again:
        plan.has_come_again = True
        request = Request(scope, receive)
        standing = table.cors[plan.match.gateway.name].standing(request)
        plan.lane = lane(request, plan.match, running.worker, standing, partial(_run_again, running, table, plan.match))
    return _run_again(running, table, plan.match, scope, receive, send)


def _run_again(running: Runtime, table: Table, match: Match, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    return run(running, table, match, ANONYMOUS, Request(scope, receive), send, keep=True)


def run(
    running: Runtime,
    table: Table,
    match: Match,
    principals: Principals,
    request: Request,
    send: Send,
    *,
    keep: bool,
    observer: Observer | None = None,
) -> Awaitable[None]:
    """Let a consumer serve the match. ``keep``: the next request of this line gets the same.

    Not a coroutine function, as each coroutine on the way is work for the garbage collector: await what it returns.
    """
    send = metrics.counting(send, metrics.answers(match.gateway.name, match.route.name, match.route.capability))
    try:
        send = _adorned(table, match.gateway, principals, request, send)
    except Problem as refused:
        return Responder(send, head=request.method == "HEAD").problem(refused, match.route.name)
    if keep and match.route.capability is Capability.FETCH:
        standing = table.cors[match.gateway.name].standing(request)
        request.hot = table.hot if standing is None else table.hot.adding(standing)
    if observer is not None:
        observer.matched(match)
    request.scope["kafkaproxy"] = (request, match, principals, observer)
    return running.consumer(match)(request.scope, request.receive, send)


def _adorned(table: Table, gateway: Gateway, principals: Principals, request: Request, send: Send) -> Send:
    """Return ``send`` with what CORS and the guards that were asked add to the answer; raise for a refused origin."""
    changes = []
    if (cors := table.cors[gateway.name].admit(request)) is not None:
        changes.append(cors)
    if principals is not ANONYMOUS:
        changes.append(lambda fields: with_vary(fields, table.guards.varies_on(principals.asked, gateway)))
    return adorned(send, changes) if changes else send


async def _preflight(table: Table, candidates: list[Found], request: Request, send: Send) -> bool:
    """Answer a preflight: it reaches neither guards nor Kafka."""
    found = table.matcher.preflight(candidates, request, requested_method(request))
    if found is None:
        return False
    gateway, routes = found
    responder = Responder(send, head=False)
    try:
        await responder.respond(204, table.cors[gateway.name].preflight(request, routes))
    except Problem as refused:
        await responder.problem(refused, "")
    return True


class _Opening:
    """The GET that would open the stream which an answer to a challenge is about."""

    method = "GET"

    def __init__(self, request: Request) -> None:
        self.scheme = request.scheme
        self.fields = request.fields
        self.path = request.path
        self.authority = request.authority


def _streams(candidates: list[Found]) -> list[Found]:
    return [found for found in candidates if found[0].route.capability is Capability.STREAM]


async def _answer(
    running: Runtime, table: Table, streams: list[Found], request: Request, send: Send, observer: Observer | None
) -> bool:
    """Take the answer to a challenge, if the client could open the stream with what it brings."""
    outcome, principals = await table.decide(streams, request, _Opening(request), observer)
    if isinstance(outcome, Match):
        try:
            send = _adorned(table, outcome.gateway, principals, request, send)
            answered = await answer_challenge(request, outcome, principals, running.sessions)
        except Problem as refused:
            answered = refused
        responder = Responder(send, head=False)
        if answered is None:
            await responder.respond(204, [])
            return True
        if isinstance(answered, Problem):
            await responder.problem(answered, outcome.route.name)
            return True
        outcome = answered
    if outcome is not None:
        await _refuse(table, outcome, principals, request, send)
    return outcome is not None


async def _refuse(table: Table, outcome: Refused | NotAllowed, principals: Principals, request: Request, send: Send) -> None:
    send = metrics.counting(send, metrics.answers(outcome.gateway.name))
    try:
        send = _adorned(table, outcome.gateway, principals, request, send)
        problem = _not_allowed(outcome, request) if isinstance(outcome, NotAllowed) else _refusal(table, outcome, principals)
    except Problem as refused:
        problem = refused
    await Responder(send, head=request.method == "HEAD").problem(problem, "")


def _refusal(table: Table, refused: Refused, principals: Principals) -> Problem:
    """401 without a valid credential, 403 without the roles (D4); 503 where nobody can tell."""
    if refused.guards & principals.keys():
        return Problem(403, "forbidden", "Your credential lacks a role that this path needs.")
    reasons = {principals.refusals.get(each) for each in refused.guards}
    if Refusal.FORBIDDEN in reasons:
        return Problem(403, "csrf", f"Send the site's CSRF token: its cookie, and its value in the field {csrf_field()}.")
    if reasons == {Refusal.UNAVAILABLE}:
        detail = "Your credential cannot be checked at the moment. Try again."
        return Problem(503, "guard-unavailable", detail, [retry_after(get_settings().retry_after_seconds)])
    invalid = Refusal.INVALID in reasons
    challenges = table.guards.challenges(refused.guards, refused.gateway, invalid=invalid)
    return Problem(401, "unauthorized", "Your credential is not valid." if invalid else "Send a valid credential.", challenges)


def _not_allowed(outcome: NotAllowed, request: Request) -> Problem:
    allow = ", ".join(sorted(outcome.allow))
    detail = f"This path does not serve {request.method}. Use {allow}."
    return Problem(405, "method-not-allowed", detail, [(b"allow", allow.encode())])
