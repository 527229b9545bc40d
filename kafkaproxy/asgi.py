"""The ASGI wrapper: ``application = KafkaProxy(get_asgi_application())``.

A request whose path no route matches goes to the wrapped application untouched, and so does everything that is not HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kafkaproxy.consumers.http import Receive, Request, Responder, Scope, Send
from kafkaproxy.consumers.problems import Problem
from kafkaproxy.lifespan import Application, run_lifespan
from kafkaproxy.routing.matching import Found, Match, NotAllowed, Refused, RolePrincipal

if TYPE_CHECKING:
    from kafkaproxy.runtime import Runtime, Table

__all__ = ["KafkaProxy"]

_NOBODY: Mapping[str, RolePrincipal] = {}


class KafkaProxy:
    """Puts the routes of the database in front of ``inner``, the site's own ASGI application.

    ``running`` returns what runs in this process; tests give their own.
    """

    def __init__(self, inner: Application, *, running: Callable[[], Runtime] | None = None) -> None:
        # Not at the top: a site's asgi.py imports this module before get_asgi_application() has loaded the apps.
        from kafkaproxy.runtime import runtime

        self._inner = inner
        self._running = running or runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] == "http":
            running = self._running()
            table = running.table or await running.astart()
            if (kept := table.hot.find(scope)) is not None:
                await kept.respond(scope, send)
                return
            request = Request(scope, receive)
            if (planned := table.plans.find(scope)) is not None:
                request.hot = table.hot
                scope["kafkaproxy"] = (request, planned, _NOBODY)
                await running.consumer(planned)(scope, receive, send)
                return
            candidates = table.matcher.find(request.path)
            if candidates and await self._serve(running, table, candidates, request, send):
                return
        elif scope["type"] == "lifespan":
            running = self._running()
            await run_lifespan(self._inner, scope, receive, send, running.astart, running.astop)
            return
        await self._inner(scope, receive, send)

    async def _serve(self, running: Runtime, table: Table, candidates: list[Found], request: Request, send: Send) -> bool:
        """Serve a request that a route's path matches; return False where the gateways' entries leave it to the site."""
        names = table.matcher.guards(candidates)
        principals = await table.authenticate(names, candidates, request) if names else _NOBODY
        outcome = table.matcher.resolve(candidates, request, principals)
        match outcome:
            case Match():
                request.scope["kafkaproxy"] = (request, outcome, principals)
                if table.matcher.is_plain(candidates):
                    request.hot = table.hot
                if table.matcher.is_simple(candidates):
                    table.plans.keep(request.scope, outcome)
                await running.consumer(outcome)(request.scope, request.receive, send)
            case Refused():
                await _refuse(outcome, principals, request, send)
            case NotAllowed():
                await _method_not_allowed(outcome, request, send)
            case None:
                return False
        return True


async def _refuse(refused: Refused, principals: Mapping[str, RolePrincipal], request: Request, send: Send) -> None:
    """401 without a valid credential, 403 without the roles (D4)."""
    responder = Responder(send, head=request.method == "HEAD")
    if refused.guards & principals.keys():
        problem = Problem(403, "forbidden", "Your credential lacks a role that this path needs.")
    else:
        challenge = (b"www-authenticate", b'Bearer realm="%s"' % refused.gateway.name.encode())
        problem = Problem(401, "unauthorized", "Send a valid credential.", [challenge])
    await responder.problem(problem, "")


async def _method_not_allowed(outcome: NotAllowed, request: Request, send: Send) -> None:
    allow = ", ".join(sorted(outcome.allow))
    detail = f"This path does not serve {request.method}. Use {allow}."
    problem = Problem(405, "method-not-allowed", detail, [(b"allow", allow.encode())])
    await Responder(send, head=request.method == "HEAD").problem(problem, "")
