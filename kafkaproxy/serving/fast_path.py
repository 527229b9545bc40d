"""Prepared handlers: what serves a method and path that was matched before, without matching it again.

The handler of a oneway route whose record depends on nothing but ``content-type`` and body has a fast path as well: topic, key
and overrides are rendered once, not with every request. A request that needs anything else (CORS, an idempotency key, a body
in pieces) takes the regular path. Both exist because they were measured (``benchmarks/rest.py``): for such a request, the
regular path costs more than everything else that Python does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from kafkaproxy import metrics
from kafkaproxy.conf import get_settings
from kafkaproxy.consumers.context import Exchange, render_topic
from kafkaproxy.consumers.produce import oneway_headers, record_key, rendered_overrides
from kafkaproxy.core.expressions import Parameter
from kafkaproxy.guards.principals import ANONYMOUS
from kafkaproxy.http.cors import FieldChange, with_changed_fields
from kafkaproxy.http.problems import Fields, Problem
from kafkaproxy.http.request import Receive, Request, Responder, Scope, Send
from kafkaproxy.routing.matching import Match
from kafkaproxy.routing.table import Capability, Route
from kafkaproxy.worker.worker import Worker

__all__ = ["FastPath", "PreparedHandler", "PreparedHandlers", "prepare_fast_path"]

_MAX_HANDLERS: Final = 4096
_MAX_PATH: Final = 512
"""The longest path, in bytes, that a handler is prepared for."""
_REGULAR_PATH_FIELDS: Final = frozenset({b"origin", b"transfer-encoding", b"expect"})
"""A request with one of these fields takes the regular path."""
Serve = Callable[[Scope, Receive, Send], Awaitable[None]]


class PreparedHandler:
    """What serves a method and path. Its fast path is made with the second request: many paths are requested only once."""

    __slots__ = ("fast_path", "match", "was_reused")

    def __init__(self, match: Match) -> None:
        self.match = match
        self.was_reused = False
        self.fast_path: FastPath | None = None


class PreparedHandlers:
    """The handlers by method and path, where nothing else decides which route serves. Bounded; the oldest is removed first."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, bytes], PreparedHandler] = {}

    def find(self, scope: Scope) -> PreparedHandler | None:
        """Return the handler for a request's method and path."""
        return self._handlers.get((scope["method"], scope.get("raw_path") or b""))

    def add(self, scope: Scope, match: Match) -> None:
        """Prepare a handler for further requests of this method and path."""
        raw: bytes = scope.get("raw_path") or b""
        if not 0 < len(raw) <= _MAX_PATH:
            return
        if len(self._handlers) >= _MAX_HANDLERS:
            self._handlers.pop(next(iter(self._handlers)))
        self._handlers[scope["method"], raw] = PreparedHandler(match)


def prepare_fast_path(
    request: Request, match: Match, worker: Worker, change: FieldChange | None, serve_regularly: Serve
) -> FastPath | None:
    """Return the fast path for a request's method and path; None where its record depends on more than the path.

    ``change`` is how CORS changes the fields of a response to a request without ``origin``. ``serve_regularly`` serves the
    requests that need the regular path.
    """
    if not _depends_on_path_only(match.route):
        return None
    # Without this request's fields: they are not those of the next request.
    bare = Request({**request.scope, "headers": []}, request.receive)
    try:
        return FastPath(Exchange(bare, match, ANONYMOUS), worker, change, serve_regularly)
    except Problem:  # the path cannot be decoded or is no topic's: the regular path answers so
        return None


def _depends_on_path_only(route: Route) -> bool:
    """True if a record's topic, key and overrides depend on the path alone."""
    if route.capability is not Capability.PRODUCE or route.reply_to is not None:
        return False
    templates = [route.topic, *(value for _, value in route.overrides)]
    if route.key is not None:
        templates.append(route.key)
    return all(isinstance(each, Parameter) for template in templates for each in template.expressions)


class FastPath:
    """Produces the records of one method and path."""

    __slots__ = (
        "_change",
        "_counters",
        "_fields",
        "_is_tombstone",
        "_key",
        "_overrides",
        "_regular_path_fields",
        "_route",
        "_serve_regularly",
        "_topic",
        "_worker",
    )

    def __init__(self, exchange: Exchange, worker: Worker, change: FieldChange | None, serve_regularly: Serve) -> None:
        match = exchange.match
        self._route = match.route
        self._topic = render_topic(match.route.topic, exchange.context)
        self._key = record_key(exchange)
        self._overrides = rendered_overrides(exchange)
        self._is_tombstone = exchange.request.method == "DELETE"
        self._counters = metrics.answers(match.gateway.name, match.route.name, match.route.capability)
        self._change = change
        self._fields: Fields = [] if change is None else change([])
        self._regular_path_fields = _REGULAR_PATH_FIELDS | {match.gateway.idempotency_header}
        self._worker = worker
        self._serve_regularly = serve_regularly

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Produce, and answer 204 when Kafka has acknowledged the record; or serve the request by the regular path."""
        content_type = length = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                if content_type is None:
                    content_type = value
            elif name == b"content-length":
                length = value
            elif name in self._regular_path_fields:
                await self._serve_regularly(scope, receive, send)
                return
        message = await receive()
        body = message.get("body", b"")
        is_whole = not message.get("more_body") or length == b"%d" % len(body)
        if not is_whole or message["type"] != "http.request" or len(body) > get_settings().max_body_bytes:
            await self._serve_regularly(scope, _ReplayedReceive(message, receive), send)
            return
        headers = oneway_headers(content_type, self._overrides)
        route, user = self._route, object()
        users = self._worker.users(route.cluster)
        users.add(user)
        try:
            cluster = self._worker.cluster(route.cluster)
            await cluster.send(route.acks, self._topic, self._key, None if self._is_tombstone else body, headers)
        except Exception as error:  # noqa: BLE001 - the client gets a problem for any error, the log the details
            await self._refuse(error, send)
            return
        finally:
            users.discard(user)
        self._counters[2].value += 1
        await send({"type": "http.response.start", "status": 204, "headers": self._fields.copy()})
        await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, error: Exception, send: Send) -> None:
        """Answer with the problem that the error is for the client."""
        send = metrics.counting(send, self._counters)
        if self._change is not None:
            send = with_changed_fields(send, [self._change])
        await Responder(send, head=False).refuse(error, self._route.name, get_settings().retry_after_seconds)


class _ReplayedReceive:
    """A ``receive`` that returns a message that was already received, then those that follow."""

    __slots__ = ("_first", "_rest")

    def __init__(self, first: Scope, rest: Receive) -> None:
        self._first: Scope | None = first
        self._rest = rest

    async def __call__(self) -> Scope:
        first, self._first = self._first, None
        return await self._rest() if first is None else first
