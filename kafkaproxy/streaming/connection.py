"""The connection of a stream: it catches up with its topic, then sends from the broadcast ring at the live end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from kafkaproxy.conf import Settings
from kafkaproxy.core import progress
from kafkaproxy.core.eventids import make_event_id
from kafkaproxy.core.futures import abandon
from kafkaproxy.core.sse import COMMENT, challenge_frame, gap_frame, id_frame, retry_frame
from kafkaproxy.guards.authorization_sessions import AuthorizationSessions
from kafkaproxy.http.problems import Fields
from kafkaproxy.http.request import Request, Send
from kafkaproxy.streaming.authorization import StreamCredentials
from kafkaproxy.streaming.broadcast import BroadcastRing, Selection
from kafkaproxy.streaming.catch_up import CatchUpReader
from kafkaproxy.streaming.registry import retry_ms
from kafkaproxy.streaming.start_position import StartPosition
from kafkaproxy.streaming.tail import StreamTail
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import TopicUnavailable
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.types import Role

__all__ = ["StreamConnection"]

log = logging.getLogger("kafkaproxy.stream")

_FLUSH_SECONDS: Final = 0.1
_FINISH_SECONDS: Final = 2.0
"""How long sending the end of the stream may take, to a client that does not read."""
_RETRY_SECONDS: Final = 1.0
"""When to check again what is overdue and could not be done, as the stream waits for something else."""


class StreamConnection:
    """Serves one client until it disconnects, stops reading, is not authorized any more, or the server stops."""

    __slots__ = (
        *("_authorization", "_client_position", "_cluster", "_ended", "_first_frame", "_has_disconnected", "_has_stalled"),
        *("_heartbeat_wanted", "_is_sending", "_last_write", "_loop", "_position", "_reader", "_request", "_retry_ms", "_send"),
        *("_settings", "_task", "_timer", "_topic", "_waiter", "_waiters"),
    )

    def __init__(
        self,
        request: Request,
        send: Send,
        settings: Settings,
        cluster: ClusterWorker,
        state: TopicState,
        start: StartPosition,
        selection: Selection,
    ) -> None:
        self._request = request
        self._send = send
        self._settings = settings
        self._cluster = cluster
        self._topic = state
        self._reader = CatchUpReader(cluster, state.name, state.key, start.offsets, selection)
        self._position = self._reader.position
        """The encoded progress after the records that were sent or that the filters left out."""
        self._client_position = self._position
        """The encoded progress that the client has received."""
        event_id = self._event_id()
        self._first_frame = gap_frame(event_id, {"lost": start.lost}) if start.lost else id_frame(event_id)
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._has_disconnected = self._ended = self._has_stalled = self._is_sending = self._heartbeat_wanted = False
        self._retry_ms: int | None = None
        self._last_write = time.monotonic()
        self._authorization: StreamCredentials | None = None

    async def run(self, fields: Fields, sessions: AuthorizationSessions, principals: Mapping[str, object]) -> None:
        """Serve the stream for as long as the client is authorized; send challenges for fresh credentials."""
        with StreamCredentials(sessions, principals, self._request.scope, self._deadline_changed) as authorization:
            self._authorization = authorization if authorization.has_end else None
            await self._run(fields)

    async def _run(self, fields: Fields) -> None:
        self._task = asyncio.current_task()
        disconnect = self._request.disconnect()
        disconnect.add_done_callback(self._on_disconnect)
        self._start_timer()
        try:
            with self._cluster.hub().follow(self._topic.name, self._begin_tail) as tail:
                await self._send_stream(tail, fields)
        except asyncio.CancelledError:
            if not self._has_stalled:
                raise
            log.info("stream_stalled topic=%s", self._topic.name)
        finally:
            self._timer.cancel()
            disconnect.remove_done_callback(self._on_disconnect)

    def _begin_tail(self, store: Store) -> StreamTail:
        return StreamTail(self._topic.key, store.next_offsets(self._topic.key))

    def drain(self) -> None:
        """End the stream, and tell the client when to reconnect. Call it in the stream's event loop."""
        self._retry_ms = retry_ms(self._settings)
        self._end()

    async def _send_stream(self, tail: StreamTail, fields: Fields) -> None:
        flush_seconds = 0.0
        await self._send({"type": "http.response.start", "status": 200, "headers": fields})
        try:
            await self._write(COMMENT + self._first_frame)
            await self._follow(tail)
        except TopicUnavailable as error:  # the client reconnects with its position
            log.warning("stream_interrupted topic=%s reason=%s detail=%s", self._topic.name, error.reason, error.detail)
        except asyncio.CancelledError:
            if self._has_stalled:
                raise
            # Daphne and Hypercorn cancel open requests when they stop. Daphne waits for all of them only if none raises, and
            # writes a message only a moment after send() has returned. Hypercorn accepts no message any more over HTTP/2.
            self.drain()
            flush_seconds = _FLUSH_SECONDS
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._send_end()
                await asyncio.sleep(flush_seconds)

    async def _send_end(self) -> None:
        if not self._has_disconnected:
            last = b"" if self._retry_ms is None else retry_frame(self._retry_ms)
            await self._send({"type": "http.response.body", "body": last})

    async def _follow(self, tail: StreamTail) -> None:
        self._reader.enter(tail)
        while not self._is_over(tail):
            await self._catch_up(tail)
            # Nothing was awaited since the reader was found to be at the live end, so no record is missed.
            if not self._is_over(tail):
                await self._send_from_ring(tail)
                self._reader.move(progress.decode(self._position))

    async def _catch_up(self, tail: StreamTail) -> None:
        """Send records until the position is that of the live end."""
        hub = self._cluster.hub()
        while await self._may_continue(tail):
            hub.advance(tail)
            if self._reader.at(tail):
                return
            frames = await self._read(tail)
            self._position = self._reader.position
            if frames:
                self._client_position = self._reader.sent_position
                await self._write(frames)
            elif self._is_heartbeat_due():
                await self._send_heartbeat(self._position)
            elif frames is None:
                await self._wait_in(tail.waiters)

    async def _read(self, tail: StreamTail) -> bytes | None:
        """Read the next page. A read from Kafka may take long: meanwhile heartbeats are sent, and the client may disconnect."""
        reading = asyncio.ensure_future(self._reader.read(tail))
        try:
            # A page of the store is read in this turn of the loop. The sleep lets other tasks run: a server's send() may not.
            await asyncio.sleep(0)
            if not reading.done():
                await self._wait_for(reading, tail)
            return reading.result() if reading.done() else b""
        finally:
            abandon(reading)

    async def _wait_for(self, reading: asyncio.Future[bytes | None], tail: StreamTail) -> None:
        reading.add_done_callback(lambda _: self._wake())
        while await self._may_continue(tail) and not reading.done():
            if self._heartbeat_wanted:
                await self._send_heartbeat(self._position)
            else:
                await self._wait_in(set())

    async def _send_from_ring(self, tail: StreamTail) -> None:
        """Send from the ring until the stream ends, the ring is closed, or the ring has dropped our frames."""
        ring = tail.subscribe(self._reader.selection)
        try:
            await self._send_frames(ring, tail)
        finally:
            self._remove_waiter()
            tail.unsubscribe(ring)

    async def _send_frames(self, ring: BroadcastRing, tail: StreamTail) -> None:
        """The loop of every delivery, so it has as few calls as possible."""
        sequence = ring.end
        while not self._ended and (self._authorization is None or await self._check_authorization()):
            if sequence < ring.end:
                batch = ring.read(sequence)
                if batch is None:
                    return
                frames, sequence, self._position = batch
                self._client_position = self._position
                await self._write(frames)
            elif ring.closed:
                return
            elif self._heartbeat_wanted:
                await self._send_heartbeat(tail.position)
            else:
                await self._add_waiter(ring.waiters)

    async def _send_heartbeat(self, position: str) -> None:
        await self._write(self._heartbeat(position))
        self._restart_timer()

    def _heartbeat(self, position: str) -> bytes:
        """Return a comment; or an event with only an id, if filtered records have moved the position."""
        if position == self._client_position:
            return COMMENT
        self._position = self._client_position = position
        return id_frame(self._event_id())

    def _event_id(self) -> str:
        """Return the event id of the position, without key and etag."""
        return make_event_id(self._position, None, None, keyed=self._reader.selection[1].keyed)

    async def _wait_in(self, waiters: set[asyncio.Future[None]]) -> None:
        try:
            await self._add_waiter(waiters)
        finally:
            self._remove_waiter()

    def _add_waiter(self, waiters: set[asyncio.Future[None]]) -> asyncio.Future[None]:
        """Add a future to ``waiters`` and return it; the waking code completes and removes it."""
        self._waiter, self._waiters = self._loop.create_future(), waiters
        waiters.add(self._waiter)
        return self._waiter

    def _remove_waiter(self) -> None:
        if self._waiter is not None:
            self._waiters.discard(self._waiter)
            self._waiter = None

    async def _check_authorization(self) -> bool:
        """Send the challenges that are due; return False, and end the stream, if a credential has ended without a fresh one."""
        assert self._authorization is not None
        is_due = self._authorization.seconds_left() <= 0
        async for challenge in self._authorization.challenges():
            await self._send_body(challenge_frame(challenge))
        if await self._authorization.is_over():
            log.info("stream_expired topic=%s", self._topic.name)
            self._ended = True
        elif is_due:
            self._restart_timer()
        return not self._ended

    async def _may_continue(self, tail: StreamTail) -> bool:
        return not self._is_over(tail) and (self._authorization is None or await self._check_authorization())

    def _write(self, frames: bytes) -> Coroutine[Any, Any, None]:
        return self._send_body(frames) if self._authorization is None else self._send_body_if_authorized(frames)

    async def _send_body_if_authorized(self, frames: bytes) -> None:
        if await self._check_authorization():
            await self._send_body(frames)

    async def _send_body(self, frames: bytes) -> None:
        self._last_write = time.monotonic()
        self._is_sending, self._heartbeat_wanted = True, False
        try:
            await self._send({"type": "http.response.body", "body": frames, "more_body": True})
        except OSError:  # ASGI: the client has disconnected
            self._has_disconnected = self._ended = True
        finally:
            self._is_sending = False

    def _is_over(self, tail: StreamTail) -> bool:
        return self._ended or tail.ended

    def _is_heartbeat_due(self) -> bool:
        return self._seconds_idle() >= self._settings.heartbeat_seconds

    def _seconds_idle(self) -> float:
        return time.monotonic() - self._last_write

    def _start_timer(self) -> None:
        """Start the timer for whatever is due next: a heartbeat, a challenge, or the end for a client that does not read.

        The code that sends a heartbeat or a challenge restarts it.
        """
        left = self._settings.heartbeat_seconds - self._seconds_idle()
        if self._is_sending:  # the next heartbeat is not due before this send has returned
            left = min(self._settings.heartbeat_seconds, self._settings.stream_send_timeout_seconds - self._seconds_idle())
        if self._authorization is not None:
            left = min(left, self._authorization.seconds_left())
        self._timer = self._loop.call_later(max(left, 0.001) if left > 0 else _RETRY_SECONDS, self._on_timer)

    def _restart_timer(self) -> None:
        self._timer.cancel()
        self._start_timer()

    def _on_timer(self) -> None:
        self._cluster.renew_interest(self._topic.name, Role.STREAM)
        if not self._is_sending:
            self._heartbeat_wanted = self._is_heartbeat_due()
            if self._heartbeat_wanted or (self._authorization is not None and self._authorization.seconds_left() <= 0):
                self._wake()
        elif self._seconds_idle() >= self._settings.stream_send_timeout_seconds and self._task is not None:
            self._has_stalled = True
            self._task.cancel()
            return
        self._start_timer()

    def _on_disconnect(self, _disconnect: asyncio.Future[None]) -> None:
        self._has_disconnected = True
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._wake()

    def _deadline_changed(self) -> None:
        """Restart the timer: the authorization's next deadline has changed."""
        self._restart_timer()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiters.discard(self._waiter)
            self._waiter.set_result(None)
