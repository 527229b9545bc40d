"""The ASGI wrapper: ``application = KafkaProxy(get_asgi_application())``.

A request whose path no route matches goes to the wrapped application untouched, and so does everything that is not HTTP.
As long as no configuration was ever loaded, paths that may be a route's are answered 503 instead (``serving.site_paths``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kafkaproxy.http.lifespan import Application, run_lifespan
from kafkaproxy.http.request import Receive, Request, Scope, Send
from kafkaproxy.serving.dispatch import follow, serve
from kafkaproxy.serving.site_paths import is_certain, refuse

if TYPE_CHECKING:
    from kafkaproxy.serving.runtime import Runtime

__all__ = ["KafkaProxy"]


class KafkaProxy:
    """The routes of the database, in front of ``inner``, the site's own ASGI application.

    A request that no route matches, and whatever is not HTTP, goes to ``inner`` untouched. Nothing is started before the
    server's lifespan startup or the first request. ``running`` is for this project's own tests.
    """

    def __init__(self, inner: Application, *, running: Callable[[], Runtime] | None = None) -> None:
        # Not at the top: a site's asgi.py imports this module before get_asgi_application() has loaded the apps.
        from kafkaproxy.serving.runtime import runtime

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
            if (plan := table.plans.find(scope)) is not None:
                await follow(running, table, plan, scope, receive, send)
                return
            running.streams.watch()  # here, as every line comes this way once, and servers have their own handlers by now
            request = Request(scope, receive)
            candidates = table.matcher.find(request.path)
            if candidates and await serve(running, table, candidates, request, send):
                return
            if not table.configuration.known and not is_certain(scope):
                await refuse(request, send)
                return
        elif scope["type"] == "lifespan":
            running = self._running()
            await run_lifespan(self._inner, scope, receive, send, running.astart, running.astop)
            return
        await self._inner(scope, receive, send)
