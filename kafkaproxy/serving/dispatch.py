"""From a request whose path a route matches to its response: a preflight, a challenge response, a consumer, or a refusal."""

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
from kafkaproxy.http.cors import is_preflight, requested_method, with_changed_fields
from kafkaproxy.http.problems import Problem, retry_after
from kafkaproxy.http.request import Receive, Request, Responder, Scope, Send
from kafkaproxy.routing.matching import Found, Match, NotAllowed, Refused
from kafkaproxy.routing.table import Capability, Gateway
from kafkaproxy.serving.fast_path import PreparedHandler, prepare_fast_path

if TYPE_CHECKING:
    from kafkaproxy.consumers.context import ResponseCacheWriter
    from kafkaproxy.serving.runtime import Runtime, Table

__all__ = ["serve", "serve_prepared"]


async def serve(
    running: Runtime, table: Table, candidates: list[Found], request: Request, send: Send, observer: Observer | None = None
) -> bool:
    """Serve a request that a route's path matches; return False where the gateways' entries leave it to the site.

    With an ``observer`` nothing is kept for later requests of the same line.
    """
    if is_preflight(request):
        return await _preflight(table, candidates, request, send)
    if is_challenge_answer(request) and (streams := _streams(candidates)) and table.matcher.guards(streams):
        return await _answer_challenge_response(running, table, streams, request, send, observer)
    outcome, principals = await table.decide(candidates, request, observer=observer)
    if isinstance(outcome, Match):
        is_shared = observer is None and table.matcher.is_plain(candidates)
        if is_shared and table.matcher.is_simple(candidates) and request.method != "OPTIONS":
            table.prepared.add(request.scope, outcome)
        await run_consumer(running, table, outcome, principals, request, send, is_shared=is_shared, observer=observer)
    elif outcome is not None:
        await _refuse(table, outcome, principals, request, send)
    return outcome is not None


def serve_prepared(
    running: Runtime, table: Table, handler: PreparedHandler, scope: Scope, receive: Receive, send: Send
) -> Awaitable[None]:
    """Serve a request with the handler of its method and path. Await what this returns."""
    if handler.fast_path is not None:
        return handler.fast_path.serve(scope, receive, send)
    if not handler.was_reused:
        handler.was_reused = True
        request = Request(scope, receive)
        change = table.cors[handler.match.gateway.name].change_without_origin(request)
        handler.fast_path = prepare_fast_path(
            request, handler.match, running.worker, change, partial(_serve_again, running, table, handler.match)
        )
    return _serve_again(running, table, handler.match, scope, receive, send)


def _serve_again(running: Runtime, table: Table, match: Match, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    return run_consumer(running, table, match, ANONYMOUS, Request(scope, receive), send, is_shared=True)


def run_consumer(
    running: Runtime,
    table: Table,
    match: Match,
    principals: Principals,
    request: Request,
    send: Send,
    *,
    is_shared: bool,
    observer: Observer | None = None,
) -> Awaitable[None]:
    """Serve a match with its consumer. ``is_shared``: another client's request of the same method and path gets the same match.

    Await what this returns. It is not a coroutine function: every coroutine object adds work for the garbage collector.
    """
    send = metrics.counting(send, metrics.answers(match.gateway.name, match.route.name, match.route.capability))
    try:
        send = _with_added_fields(table, match.gateway, principals, request, send)
    except Problem as refused:
        return Responder(send, head=request.method == "HEAD").problem(refused, match.route.name)
    cache: ResponseCacheWriter | None = None
    if is_shared and match.route.capability is Capability.FETCH:
        change = table.cors[match.gateway.name].change_without_origin(request)
        cache = table.response_cache if change is None else table.response_cache.with_changed_fields(change)
    if observer is not None:
        observer.matched(match)
    request.scope["kafkaproxy"] = (request, match, principals, cache, observer)
    return running.consumer(match)(request.scope, request.receive, send)


def _with_added_fields(table: Table, gateway: Gateway, principals: Principals, request: Request, send: Send) -> Send:
    """Return ``send`` with what CORS and the guards add to the response; raise the :class:`Problem` for a refused origin.

    ``vary`` names the fields of those guards alone whose outcome the response depends on.
    """
    changes = []
    if (cors := table.cors[gateway.name].admit(request)) is not None:
        changes.append(cors)
    if principals is not ANONYMOUS:
        changes.append(lambda fields: with_vary(fields, table.guards.varies_on(principals.asked, gateway)))
    return with_changed_fields(send, changes) if changes else send


async def _preflight(table: Table, candidates: list[Found], request: Request, send: Send) -> bool:
    """Answer a preflight; return False if it is the site's. A preflight reaches neither guards nor Kafka."""
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


class _StreamRequestLine:
    """The GET that opens the stream whose challenge a POST responds to: a route may have a condition on the method."""

    method = "GET"

    def __init__(self, request: Request) -> None:
        self.scheme = request.scheme
        self.fields = request.fields
        self.path = request.path
        self.authority = request.authority


def _streams(candidates: list[Found]) -> list[Found]:
    return [found for found in candidates if found[0].route.capability is Capability.STREAM]


async def _answer_challenge_response(
    running: Runtime, table: Table, streams: list[Found], request: Request, send: Send, observer: Observer | None
) -> bool:
    """Process a challenge response if its credential may open the stream; return False for a path of the site."""
    outcome, principals = await table.decide(streams, request, _StreamRequestLine(request), observer)
    if isinstance(outcome, Match):
        try:
            send = _with_added_fields(table, outcome.gateway, principals, request, send)
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
        send = _with_added_fields(table, outcome.gateway, principals, request, send)
        problem = _not_allowed(outcome, request) if isinstance(outcome, NotAllowed) else _refusal(table, outcome, principals)
    except Problem as refused:
        problem = refused
    await Responder(send, head=request.method == "HEAD").problem(problem, "")


def _refusal(table: Table, refused: Refused, principals: Principals) -> Problem:
    """Return 401 for no valid credential, 403 for missing roles (D4), 503 if no guard can check the credential now."""
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
