"""One open stream: a cursor that catches up with its topic, then walks the ring of frames at the live end."""

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
from kafkaproxy.guards.sessions import AuthorizationSessions
from kafkaproxy.http.problems import Fields
from kafkaproxy.http.request import Request, Send
from kafkaproxy.streaming.authorization import Authorized
from kafkaproxy.streaming.broadcast import BroadcastRing, Selection
from kafkaproxy.streaming.catch_up import Cursor
from kafkaproxy.streaming.registry import retry_ms
from kafkaproxy.streaming.start_position import Start
from kafkaproxy.streaming.tail import StreamTail
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import TopicUnavailable
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.types import Role

__all__ = ["OpenStream"]

log = logging.getLogger("kafkaproxy.stream")

_LINGER_SECONDS: Final = 0.1
_LEAVE_SECONDS: Final = 2.0
"""How long the last words may take for a client that does not read."""
_AGAIN_SECONDS: Final = 1.0
"""When to look again at what is overdue, and could not be done: the stream is at something that takes its time."""


class OpenStream:
    """Serves one client until it leaves, stops reading, or the server stops."""

    __slots__ = (
        *("_authorization", "_cluster", "_cursor", "_ended", "_first", "_gone", "_is_beat", "_last_write", "_loop", "_parked"),
        *("_position", "_request", "_retry", "_send", "_settings", "_stalled", "_task", "_timer", "_told", "_topic", "_waiter"),
        "_writing",
    )

    def __init__(
        self,
        request: Request,
        send: Send,
        settings: Settings,
        cluster: ClusterWorker,
        state: TopicState,
        start: Start,
        selection: Selection,
    ) -> None:
        self._request = request
        self._send = send
        self._settings = settings
        self._cluster = cluster
        self._topic = state
        self._cursor = Cursor(cluster, state.name, state.key, start.position, selection)
        self._position = self._cursor.position
        """The progress after what was sent, and after what the filters held back since."""
        self._told = self._position
        """The progress that the client knows of."""
        event_id = self._event_id()
        self._first = gap_frame(event_id, {"lost": start.lost}) if start.lost else id_frame(event_id)
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._parked: set[asyncio.Future[None]] = set()
        self._gone = self._ended = self._stalled = self._writing = self._is_beat = False
        self._retry: int | None = None
        self._last_write = time.monotonic()
        self._authorization: Authorized | None = None

    async def run(self, fields: Fields, sessions: AuthorizationSessions, principals: Mapping[str, object]) -> None:
        """Serve, for as long as the client's credentials allow: it is challenged in time for a fresh one."""
        with Authorized(sessions, principals, self._request.scope, self._wake_up) as authorization:
            self._authorization = authorization if authorization.ends else None
            await self._run(fields)

    async def _run(self, fields: Fields) -> None:
        self._task = asyncio.current_task()
        disconnect = self._request.disconnect()
        disconnect.add_done_callback(self._leave)
        self._arm()
        try:
            with self._cluster.hub().follow(self._topic.name, self._begin_tail) as tail:
                await self._serve(tail, fields)
        except asyncio.CancelledError:
            if not self._stalled:
                raise
            log.info("stream_stalled topic=%s", self._topic.name)
        finally:
            self._timer.cancel()
            disconnect.remove_done_callback(self._leave)

    def _begin_tail(self, store: Store) -> StreamTail:
        return StreamTail(self._topic.key, store.next_offsets(self._topic.key))

    def drain(self) -> None:
        """End, and tell the client when to come back; from the stream's own loop."""
        self._retry = retry_ms(self._settings)
        self._end()

    async def _serve(self, tail: StreamTail, fields: Fields) -> None:
        linger = 0.0
        await self._send({"type": "http.response.start", "status": 200, "headers": fields})
        try:
            await self._write(COMMENT + self._first)
            await self._follow(tail)
        except TopicUnavailable as error:  # the client comes back to where it was
            log.warning("stream_interrupted topic=%s reason=%s detail=%s", self._topic.name, error.reason, error.detail)
        except asyncio.CancelledError:
            if self._stalled:
                raise
            # Daphne and hypercorn cancel what is open when they stop. Daphne waits for all of it only if nothing is raised,
            # and has written what it was sent only a moment later. Hypercorn takes nothing any more over HTTP/2.
            self.drain()
            linger = _LINGER_SECONDS
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._finish()
                await asyncio.sleep(linger)

    async def _finish(self) -> None:
        if not self._gone:
            last = b"" if self._retry is None else retry_frame(self._retry)
            await self._send({"type": "http.response.body", "body": last})

    async def _follow(self, tail: StreamTail) -> None:
        self._cursor.enter(tail)
        while not self._is_over(tail):
            await self._catch_up(tail)
            # Nothing was awaited since the cursor was seen to be at the tail.
            if not self._is_over(tail):
                await self._walk(tail)
                self._cursor.move(progress.decode(self._position))

    async def _catch_up(self, tail: StreamTail) -> None:
        """Read until the cursor is at the tail."""
        hub = self._cluster.hub()
        while await self._may_follow(tail):
            hub.advance(tail)
            if self._cursor.at(tail):
                return
            frames = await self._read(tail)
            self._position = self._cursor.position
            if frames:
                self._told = self._cursor.told
                await self._write(frames)
            elif self._is_heartbeat_due():
                await self._beat(self._position)
            elif frames is None:
                await self._wait_in(tail.waiters)

    async def _read(self, tail: StreamTail) -> bytes | None:
        """Read on. Kafka may take its time for it: meanwhile there are heartbeats, and the client may leave."""
        reading = asyncio.ensure_future(self._cursor.read(tail))
        try:
            # What the store has is read after this. It costs time, and a server's send need not give way to others.
            await asyncio.sleep(0)
            if not reading.done():
                await self._wait_for(reading, tail)
            return reading.result() if reading.done() else b""
        finally:
            abandon(reading)

    async def _wait_for(self, reading: asyncio.Future[bytes | None], tail: StreamTail) -> None:
        reading.add_done_callback(lambda _: self._wake())
        while await self._may_follow(tail) and not reading.done():
            if self._is_beat:
                await self._beat(self._position)
            else:
                await self._wait_in(set())

    async def _walk(self, tail: StreamTail) -> None:
        """Walk the ring until it ends, or has moved on under us."""
        ring = tail.join(self._cursor.selection)
        try:
            await self._walk_ring(ring, tail)
        finally:
            self._unpark()
            tail.leave(ring)

    async def _walk_ring(self, ring: BroadcastRing, tail: StreamTail) -> None:
        """Every delivery passes here: what may be left out is left out."""
        sequence = ring.end
        while not self._ended and (self._authorization is None or await self._may_go_on()):
            if sequence < ring.end:
                piece = ring.since(sequence)
                if piece is None:
                    return
                frames, sequence, self._position = piece
                self._told = self._position
                await self._write(frames)
            elif ring.closed:
                return
            elif self._is_beat:
                await self._beat(tail.position)
            else:
                await self._park(ring.waiters)

    async def _beat(self, position: str) -> None:
        await self._write(self._heartbeat(position))
        self._arm_anew()

    def _heartbeat(self, position: str) -> bytes:
        """Return a comment; or, when filtered records have moved the position, an event that only has the new id."""
        if position == self._told:
            return COMMENT
        self._position = self._told = position
        return id_frame(self._event_id())

    def _event_id(self) -> str:
        """Return the id of the position, as of a record without key and etag."""
        return make_event_id(self._position, None, None, keyed=self._cursor.selection[1].keyed)

    async def _wait_in(self, waiters: set[asyncio.Future[None]]) -> None:
        try:
            await self._park(waiters)
        finally:
            self._unpark()

    def _park(self, waiters: set[asyncio.Future[None]]) -> asyncio.Future[None]:
        """Return a future to await, which whoever has something for us completes and takes out of ``waiters``."""
        self._waiter, self._parked = self._loop.create_future(), waiters
        waiters.add(self._waiter)
        return self._waiter

    def _unpark(self) -> None:
        if self._waiter is not None:
            self._parked.discard(self._waiter)
            self._waiter = None

    async def _may_go_on(self) -> bool:
        """Send the challenge that is due; end where a credential is over and nobody brought a fresh one."""
        assert self._authorization is not None
        is_due = self._authorization.seconds_left() <= 0
        async for challenge in self._authorization.challenges():
            await self._put(challenge_frame(challenge))
        if await self._authorization.is_over():
            log.info("stream_expired topic=%s", self._topic.name)
            self._ended = True
        elif is_due:
            self._arm_anew()
        return not self._ended

    async def _may_follow(self, tail: StreamTail) -> bool:
        return not self._is_over(tail) and (self._authorization is None or await self._may_go_on())

    def _write(self, frames: bytes) -> Coroutine[Any, Any, None]:
        return self._put(frames) if self._authorization is None else self._put_if_allowed(frames)

    async def _put_if_allowed(self, frames: bytes) -> None:
        if await self._may_go_on():
            await self._put(frames)

    async def _put(self, frames: bytes) -> None:
        self._last_write = time.monotonic()
        self._writing, self._is_beat = True, False
        try:
            await self._send({"type": "http.response.body", "body": frames, "more_body": True})
        except OSError:  # ASGI: the client is gone
            self._gone = self._ended = True
        finally:
            self._writing = False

    def _is_over(self, tail: StreamTail) -> bool:
        return self._ended or tail.ended

    def _is_heartbeat_due(self) -> bool:
        return self._idle_for() >= self._settings.heartbeat_seconds

    def _idle_for(self) -> float:
        return time.monotonic() - self._last_write

    def _arm(self) -> None:
        """One timer for all that is due by time: the heartbeat, and giving up on a client that does not read.

        Who does what was due arms it anew.
        """
        left = self._settings.heartbeat_seconds - self._idle_for()
        if self._writing:  # it may take a while, or be over in a moment
            left = min(self._settings.heartbeat_seconds, self._settings.stream_send_timeout_seconds - self._idle_for())
        if self._authorization is not None:
            left = min(left, self._authorization.seconds_left())
        self._timer = self._loop.call_later(max(left, 0.001) if left > 0 else _AGAIN_SECONDS, self._tick)

    def _arm_anew(self) -> None:
        self._timer.cancel()
        self._arm()

    def _tick(self) -> None:
        self._cluster.keep(self._topic.name, Role.STREAM)
        if not self._writing:
            self._is_beat = self._is_heartbeat_due()
            if self._is_beat or (self._authorization is not None and self._authorization.seconds_left() <= 0):
                self._wake()
        elif self._idle_for() >= self._settings.stream_send_timeout_seconds and self._task is not None:
            self._stalled = True
            self._task.cancel()
            return
        self._arm()

    def _leave(self, _disconnect: asyncio.Future[None]) -> None:
        self._gone = True
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._wake()

    def _wake_up(self) -> None:
        """Look again: the authorization's next deadline has moved."""
        self._arm_anew()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._parked.discard(self._waiter)
            self._waiter.set_result(None)
