"""Server-Sent Events: GET opens a stream of the records that match (the contract, section *Stream*)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from urllib.parse import parse_qsl

from channels.consumer import AsyncConsumer

from kafkaproxy.conf import Settings, get_settings
from kafkaproxy.consumers.context import Exchange, render_topic
from kafkaproxy.consumers.cursor import Cursor, resolve_start
from kafkaproxy.consumers.fetch import render_filters
from kafkaproxy.consumers.http import ClientGone, Receive, Request, Responder, Scope, Send
from kafkaproxy.consumers.problems import Fields, Problem, as_problem, retry_after
from kafkaproxy.consumers.responses import vary_fields
from kafkaproxy.core.eventids import BadEventId, make_event_id, parse_event_id
from kafkaproxy.core.sse import COMMENT, id_frame, retry_frame
from kafkaproxy.routing.matching import Match, RolePrincipal
from kafkaproxy.streams import Streams
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.tail import Framing, Group, StreamTail
from kafkaproxy.worker.types import Role
from kafkaproxy.worker.worker import Worker

__all__ = ["StreamConsumer"]

log = logging.getLogger("kafkaproxy.stream")


class StreamConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves stream routes. One instance for all: what belongs to a stream is in its :class:`_Stream`."""

    def __init__(self, worker: Worker, streams: Streams) -> None:
        self._worker = worker
        self._streams = streams

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Serve a matched request, which the scope carries with its match and principals under ``kafkaproxy``."""
        matched: tuple[Request, Match, Mapping[str, RolePrincipal]] = scope["kafkaproxy"]
        request, match, principals = matched
        settings = get_settings()
        try:
            stream = await self._open(Exchange(request, match, principals), settings, send)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer and the log the details
            problem = as_problem(error, match.route.name, settings.retry_after_seconds)
            await Responder(send, head=False).problem(problem, match.route.name)
            return
        with self._streams.opened(stream):
            await stream.run()

    async def _open(self, exchange: Exchange, settings: Settings, send: Send) -> _Stream:
        """Fix where the stream begins; everything that can be refused is refused here, before the 200."""
        if self._streams.draining or len(self._streams) >= settings.max_streams:
            detail = "No more streams can be opened here at the moment. Try again."
            raise Problem(503, "too-many-streams", detail, [retry_after(settings.retry_after_seconds)])
        route, context = exchange.match.route, exchange.context
        resumed = _resumed(exchange.request, settings.max_event_id_bytes)
        cluster = self._worker.cluster(route.cluster)
        topic = render_topic(route.topic, context)
        state = await cluster.read_to_end(topic, Role.STREAM, settings.ready_timeout_seconds)
        start = await resolve_start(cluster, topic, state, route, resumed)
        framing = Framing(route.event_id_key, route.base64)
        cursor = Cursor(cluster, topic, state.key, start, render_filters(route.filters, context), framing)
        fields = _fields(exchange)
        return _Stream(exchange.request, send, settings, cluster, topic, cursor, fields, cursor.begin(start.lost))


def _resumed(request: Request, limit: int) -> dict[int, int] | None:
    """Return the position of ``last-event-id``, the field or else the query parameter; None for a fresh start.

    An id that does not decode is 400 (D22): replaying everything, or nothing, would both be a lie.
    """
    given = request.field(b"last-event-id")
    if given is None:
        pairs = parse_qsl(request.query, keep_blank_values=True)
        given = next((value for name, value in pairs if name == b"lastEventId"), None)
    if not given:
        return None
    if len(given) > limit:
        raise Problem(400, "event-id-too-long", f"The last event id has more than {limit} bytes: open the stream without it.")
    try:
        return parse_event_id(given.decode("latin-1"))
    except BadEventId as error:
        detail = f"The last event id is not one of this site's. {error} Open the stream without it to start anew."
        raise Problem(400, "bad-event-id", detail) from None


def _fields(exchange: Exchange) -> Fields:
    match = exchange.match
    return [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
        *vary_fields(match.route, match.gateway),
    ]


class _Stream:
    """One open stream: a cursor that catches up, then walks its group's ring."""

    __slots__ = (
        *("_cluster", "_cursor", "_ended", "_fields", "_first", "_group", "_last_write", "_loop", "_request", "_retry"),
        *("_send", "_sent_id", "_sequence", "_settings", "_stalled", "_tail", "_task", "_timer", "_topic", "_waiter"),
        "_writing",
    )

    def __init__(
        self,
        request: Request,
        send: Send,
        settings: Settings,
        cluster: ClusterWorker,
        topic: str,
        cursor: Cursor,
        fields: Fields,
        first: bytes,
    ) -> None:
        self._request = request
        self._send = send
        self._settings = settings
        self._cluster = cluster
        self._topic = topic
        self._cursor = cursor
        self._fields = fields
        self._first = first
        self._group: Group | None = None
        self._tail: StreamTail | None = None
        self._sequence = 0
        self._sent_id = cursor.event_id
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._stalled = False
        self._writing = False
        self._retry: int | None = None
        self._last_write = time.monotonic()

    async def run(self) -> None:
        """Serve until the client leaves, the server stops or the client stops reading."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        gone = asyncio.ensure_future(self._request.gone())
        gone.add_done_callback(lambda _: self._end())
        self._tail = self._cluster.hub().stream(self._topic, self._cursor.topic_id)
        group = self._tail.join(*self._cursor.view)
        self._group = group
        self._arm()
        try:
            await self._serve()
        except asyncio.CancelledError:
            if not self._stalled:
                raise
            log.info("stream_stalled topic=%s", self._topic)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            gone.cancel()
            self._cluster.hub().leave_stream(self._topic, group)

    def drain(self, retry_ms: int) -> None:
        """End, and tell the client when to come back; from the stream's own loop."""
        self._retry = retry_ms
        self._end()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that serves the stream."""
        return self._loop

    async def _serve(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": self._fields})
        await self._write(COMMENT + self._first)
        while not self._over():
            await self._catch_up()
            await self._follow()
        with contextlib.suppress(OSError):
            last = b"" if self._retry is None else retry_frame(self._retry)
            await self._send({"type": "http.response.body", "body": last})

    async def _catch_up(self) -> None:
        """Read up to the tail, then take a place in its ring. Nothing is awaited between the last look and that."""
        assert self._tail is not None
        assert self._group is not None
        while not self._over():
            self._cluster.hub().advance(self._tail)
            async for frames in self._cursor.catch_up(self._tail):
                await self._write(frames)
                if self._over():
                    return
            if self._cursor.at(self._tail):
                self._sequence = self._group.end
                return
            await asyncio.sleep(0)

    async def _follow(self) -> None:
        """Walk the ring until the end, or until the ring or the topic has moved on under us."""
        group, tail = self._group, self._tail
        assert group is not None
        assert tail is not None
        position = self._cursor.event_id
        while not self._over():
            if tail.topic_id != self._cursor.topic_id:
                return
            if self._sequence < group.end:
                frames = group.since(self._sequence)
                if frames is None:  # too slow for the ring: back to being a cursor, where the last frame left off
                    self._cursor.move(parse_event_id(position))
                    return
                self._sequence = group.end
                position = self._sent_id = frames[1]
                await self._write(frames[0])
            elif self._idle_for() >= self._settings.heartbeat_seconds:
                await self._write(self._heartbeat(tail))
                position = self._sent_id
            else:
                await self._wait(group)

    def _heartbeat(self, tail: StreamTail) -> bytes:
        """Return a comment; or, when filtered records have moved the position, an event that only has the new id."""
        event_id = make_event_id(tail.position(), None, None, keyed=self._cursor.keyed)
        if event_id == self._sent_id:
            return COMMENT
        self._sent_id = event_id
        return id_frame(event_id)

    async def _wait(self, group: Group) -> None:
        self._waiter = self._loop.create_future()
        group.waiters.add(self._waiter)
        try:
            await self._waiter
        finally:
            group.waiters.discard(self._waiter)
            self._waiter = None

    async def _write(self, frames: bytes) -> None:
        self._last_write = time.monotonic()
        self._writing = True
        try:
            await self._send({"type": "http.response.body", "body": frames, "more_body": True})
        except OSError:  # ASGI: the client is gone
            self._ended = True
        finally:
            self._writing = False

    def _over(self) -> bool:
        return self._ended

    def _idle_for(self) -> float:
        return time.monotonic() - self._last_write

    def _arm(self) -> None:
        """One timer for all that is due by time: the heartbeat, and giving up on a client that does not read."""
        period = self._settings.stream_send_timeout_seconds if self._writing else self._settings.heartbeat_seconds
        self._timer = self._loop.call_later(max(period - self._idle_for(), 0.001), self._tick)

    def _tick(self) -> None:
        if self._writing and self._idle_for() >= self._settings.stream_send_timeout_seconds and self._task is not None:
            self._stalled = True
            self._task.cancel()
            return
        if not self._writing and self._idle_for() >= self._settings.heartbeat_seconds:
            self._wake()
        self._arm()

    def _end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
