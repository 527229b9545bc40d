"""The stream consumer: GET opens a stream (Server-Sent Events) of the records that match (the contract, *Stream*)."""

from __future__ import annotations

from contextlib import closing

from channels.consumer import AsyncConsumer

from kafkaproxy.conf import Settings, get_settings
from kafkaproxy.consumers.context import Exchange, Matched, render_topic
from kafkaproxy.consumers.fetch import render_filters
from kafkaproxy.core.sse import retry_frame
from kafkaproxy.guards.authorization_sessions import AuthorizationSessions
from kafkaproxy.http.problems import Fields, Problem, retry_after
from kafkaproxy.http.request import ClientGone, Receive, Responder, Scope, Send
from kafkaproxy.streaming.authorization import required_principals
from kafkaproxy.streaming.broadcast import Framing
from kafkaproxy.streaming.connection import StreamConnection
from kafkaproxy.streaming.registry import StreamRegistry, retry_ms
from kafkaproxy.streaming.start_position import last_event_position, resolve_start_position
from kafkaproxy.worker.worker import Worker

__all__ = ["StreamConsumer"]


class StreamConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves stream routes. One instance serves every stream; the state of a stream is in its :class:`StreamConnection`."""

    def __init__(self, worker: Worker, streams: StreamRegistry, sessions: AuthorizationSessions) -> None:
        self._worker = worker
        self._streams = streams
        self._sessions = sessions

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Serve a matched request. ``scope["kafkaproxy"]`` is a :data:`Matched`.

        It is removed from the scope: request and scope would refer to each other, and wait for the cyclic garbage collector.
        """
        matched: Matched = scope.pop("kafkaproxy")
        request, match, principals, _cache, observer = matched
        settings = get_settings()
        with closing(request), self._streams.slot(settings.max_streams) as has_slot:
            try:
                exchange = Exchange(request, match, principals, None, observer)
                if self._streams.draining:
                    await self._end_at_once(send)
                    return
                if not has_slot:
                    raise _too_many(settings)
                async with request.cancel_on_disconnect():
                    stream = await self._open(exchange, settings, send)
            except ClientGone:
                return
            except Exception as error:  # noqa: BLE001 - the client gets a problem for any error, the log the details
                await Responder(send, head=False).refuse(error, match.route.name, settings.retry_after_seconds)
                return
            with self._streams.opened(stream):
                await stream.run(_fields(), self._sessions, required_principals(match, principals))

    async def _open(self, exchange: Exchange, settings: Settings, send: Send) -> StreamConnection:
        """Determine the start position. Every refusal is raised here, before the status 200 is sent."""
        route, context, request = exchange.match.route, exchange.context, exchange.request
        last = last_event_position(request, settings.max_event_id_bytes)
        cluster = self._worker.cluster(route.cluster)
        seconds = settings.ready_timeout_seconds
        state, start = await resolve_start_position(cluster, render_topic(route.topic, context), route, last, seconds)
        framing = Framing(route.event_id_key, route.base64, settings.max_event_id_bytes)
        selection = (render_filters(route.filters, context), framing)
        return StreamConnection(request, send, settings, cluster, state, start, selection)

    async def _end_at_once(self, send: Send) -> None:
        """Send a stream that ends at once, as the server stops: browsers reconnect after it, but not after an error."""
        await send({"type": "http.response.start", "status": 200, "headers": _fields()})
        await send({"type": "http.response.body", "body": retry_frame(retry_ms(get_settings()))})


def _too_many(settings: Settings) -> Problem:
    detail = "No more streams can be opened here at the moment. Try again."
    return Problem(503, "too-many-streams", detail, [retry_after(settings.retry_after_seconds)])


def _fields() -> Fields:
    return [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
