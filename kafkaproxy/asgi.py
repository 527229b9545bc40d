"""The ASGI wrapper: ``application = KafkaProxy(get_asgi_application())``.

A request whose path no route matches goes to the wrapped application unchanged, and so does every scope that is not HTTP.
Until a configuration has been loaded, a path that may be a route's is answered 503 (``kafkaproxy.serving.site_paths``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kafkaproxy.http.lifespan import Application, run_lifespan
from kafkaproxy.http.request import Receive, Request, Scope, Send
from kafkaproxy.serving.dispatch import serve, serve_prepared
from kafkaproxy.serving.site_paths import is_site_path, refuse_unconfigured

if TYPE_CHECKING:
    from kafkaproxy.serving.runtime import Runtime

__all__ = ["KafkaProxy"]


class KafkaProxy:
    """Serves the routes of the database, and everything else with ``inner``, the site's own ASGI application.

    ``running`` returns the runtime of this process; tests pass their own.
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
            if (cached := table.response_cache.find(scope)) is not None:
                await cached.respond(scope, send)
                return
            if (handler := table.prepared.find(scope)) is not None:
                await serve_prepared(running, table, handler, scope, receive, send)
                return
            # Here, not at start: servers install their signal handlers later than that. The first request of each path
            # comes this way.
            running.streams.watch_signals()
            request = Request(scope, receive)
            candidates = table.matcher.find(request.path)
            if candidates and await serve(running, table, candidates, request, send):
                return
            if not table.configuration.known and not is_site_path(scope):
                await refuse_unconfigured(request, send)
                return
        elif scope["type"] == "lifespan":
            running = self._running()
            await run_lifespan(self._inner, scope, receive, send, running.astart, running.astop)
            return
        await self._inner(scope, receive, send)
