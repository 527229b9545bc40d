"""Oneway requests whose record depends on nothing but ``content-type`` and body, once their line has been served before.

Most of what a site produces is like that, and its topic, key and overrides are rendered once here instead of for every
request. What is unusual in any way takes the usual one. It exists because it was measured (``benchmarks/rest.py``): the
usual way costs more than everything else that Python does for such a request.
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
from kafkaproxy.http.cors import Change, adorned
from kafkaproxy.http.problems import Fields, Problem
from kafkaproxy.http.request import Receive, Request, Responder, Scope, Send
from kafkaproxy.routing.matching import Match
from kafkaproxy.routing.table import Capability, Route
from kafkaproxy.worker.worker import Worker

__all__ = ["Lane", "lane"]

_UNUSUAL: Final = frozenset({b"origin", b"transfer-encoding", b"expect"})
Usual = Callable[[Scope, Receive, Send], Awaitable[None]]


def lane(request: Request, match: Match, worker: Worker, change: Change | None, usual: Usual) -> Lane | None:
    """Return the lane of a request's line; None where it can have none.

    ``change`` is what CORS does to the fields of an answer to a request without ``origin``.
    """
    if not _is_plain(match.route):
        return None
    bare = Request({**request.scope, "headers": []}, request.receive)  # what this request brings is not for all of its line
    try:
        return Lane(Exchange(bare, match, ANONYMOUS), worker, change, usual)
    except Problem:  # of the path
        return None


def _is_plain(route: Route) -> bool:
    """Whether a record's topic, key and overrides depend on the path alone."""
    if route.capability is not Capability.PRODUCE or route.reply_to is not None:
        return False
    templates = [route.topic, *(value for _, value in route.overrides)]
    if route.key is not None:
        templates.append(route.key)
    return all(isinstance(each, Parameter) for template in templates for each in template.expressions)


class Lane:
    """Serves the requests of one method and path."""

    __slots__ = (
        "_answers",
        "_change",
        "_fields",
        "_is_tombstone",
        "_key",
        "_overrides",
        "_route",
        "_topic",
        "_unusual",
        "_usual",
        "_worker",
    )

    def __init__(self, exchange: Exchange, worker: Worker, change: Change | None, usual: Usual) -> None:
        match = exchange.match
        self._route = match.route
        self._topic = render_topic(match.route.topic, exchange.context)
        self._key = record_key(exchange)
        self._overrides = rendered_overrides(exchange)
        self._is_tombstone = exchange.request.method == "DELETE"
        self._answers = metrics.answers(match.gateway.name, match.route.name, match.route.capability)
        self._change = change
        self._fields: Fields = [] if change is None else change([])
        self._unusual = _UNUSUAL | {match.gateway.idempotency_header}
        self._worker = worker
        self._usual = usual

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Produce, and answer 204 once Kafka has the record; leave what is unusual to the usual way."""
        content_type = length = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                if content_type is None:
                    content_type = value
            elif name == b"content-length":
                length = value
            elif name in self._unusual:
                await self._usual(scope, receive, send)
                return
        message = await receive()
        body = message.get("body", b"")
        is_whole = not message.get("more_body") or length == b"%d" % len(body)
        if not is_whole or message["type"] != "http.request" or len(body) > get_settings().max_body_bytes:
            await self._usual(scope, _Again(message, receive), send)
            return
        headers = oneway_headers(content_type, self._overrides)
        route, user = self._route, object()
        users = self._worker.users(route.cluster)
        users.add(user)
        try:
            cluster = self._worker.cluster(route.cluster)
            await cluster.send(route.acks, self._topic, self._key, None if self._is_tombstone else body, headers)
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer and the log the details
            await self._refuse(error, send)
            return
        finally:
            users.discard(user)
        self._answers[2].value += 1
        await send({"type": "http.response.start", "status": 204, "headers": self._fields.copy()})
        await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, error: Exception, send: Send) -> None:
        """Answer with what went wrong."""
        send = metrics.counting(send, self._answers)
        if self._change is not None:
            send = adorned(send, [self._change])
        await Responder(send, head=False).refuse(error, self._route.name, get_settings().retry_after_seconds)


class _Again:
    """Receives a message that was taken already, then the rest."""

    __slots__ = ("_first", "_rest")

    def __init__(self, first: Scope, rest: Receive) -> None:
        self._first: Scope | None = first
        self._rest = rest

    async def __call__(self) -> Scope:
        first, self._first = self._first, None
        return await self._rest() if first is None else first
