"""Server-Sent Events: GET opens a stream of the records that match (the contract, *Stream*)."""

from __future__ import annotations

from contextlib import closing

from channels.consumer import AsyncConsumer

from kafkaproxy.conf import Settings, get_settings
from kafkaproxy.consumers.context import Exchange, Matched, render_topic
from kafkaproxy.consumers.fetch import render_filters
from kafkaproxy.core.sse import retry_frame
from kafkaproxy.guards.sessions import AuthorizationSessions
from kafkaproxy.http.problems import Fields, Problem, retry_after
from kafkaproxy.http.request import ClientGone, Receive, Responder, Scope, Send
from kafkaproxy.streaming.authorization import depended_on
from kafkaproxy.streaming.broadcast import Framing
from kafkaproxy.streaming.connection import OpenStream
from kafkaproxy.streaming.registry import Streams, retry_ms
from kafkaproxy.streaming.start_position import last_position, resolve_start
from kafkaproxy.worker.worker import Worker

__all__ = ["StreamConsumer"]


class StreamConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves stream routes. One instance for all: what belongs to a stream is in its :class:`OpenStream`."""

    def __init__(self, worker: Worker, streams: Streams, sessions: AuthorizationSessions) -> None:
        self._worker = worker
        self._streams = streams
        self._sessions = sessions

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Serve a matched request, which the scope carries with its match and principals under ``kafkaproxy``.

        They are taken out: a request that its own scope refers to would have to wait for the cyclic garbage collector.
        """
        matched: Matched = scope.pop("kafkaproxy")
        request, match, principals, _cache = matched
        settings = get_settings()
        with closing(request), self._streams.place(settings.max_streams) as has_place:
            try:
                exchange = Exchange(request, match, principals)
                if self._streams.draining:
                    await self._turn_away(send)
                    return
                if not has_place:
                    raise _too_many(settings)
                async with request.cancel_on_disconnect():
                    stream = await self._open(exchange, settings, send)
            except ClientGone:
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer and the log the details
                await Responder(send, head=False).refuse(error, match.route.name, settings.retry_after_seconds)
                return
            with self._streams.opened(stream):
                await stream.run(_fields(), self._sessions, depended_on(match, principals))

    async def _open(self, exchange: Exchange, settings: Settings, send: Send) -> OpenStream:
        """Fix where the stream begins; everything that can be refused is refused here, before the 200."""
        route, context, request = exchange.match.route, exchange.context, exchange.request
        last = last_position(request, settings.max_event_id_bytes)
        cluster = self._worker.cluster(route.cluster)
        seconds = settings.ready_timeout_seconds
        state, start = await resolve_start(cluster, render_topic(route.topic, context), route, last, seconds)
        framing = Framing(route.event_id_key, route.base64, settings.max_event_id_bytes)
        selection = (render_filters(route.filters, context), framing)
        return OpenStream(request, send, settings, cluster, state, start, selection)

    async def _turn_away(self, send: Send) -> None:
        """The server stops: a stream that ends at once, since a browser does not come back after an error."""
        await send({"type": "http.response.start", "status": 200, "headers": _fields()})
        await send({"type": "http.response.body", "body": retry_frame(retry_ms(get_settings()))})


def _too_many(settings: Settings) -> Problem:
    detail = "No more streams can be opened here at the moment. Try again."
    return Problem(503, "too-many-streams", detail, [retry_after(settings.retry_after_seconds)])


def _fields() -> Fields:
    return [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
