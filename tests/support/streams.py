"""The client's end of an event stream: a parser that follows WHATWG HTML, section 9.2, and readers for ASGI and for sockets."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["Event", "EventParser", "EventStream", "SocketStream", "asgi_stream", "parse_events"]

_PATIENCE = 60.0
_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Event:
    """A dispatched event."""

    type: str
    data: str
    id: str


class EventParser:
    """Takes bytes as they come and returns the events they complete (section 9.2.6)."""

    def __init__(self) -> None:
        self.last_event_id = ""
        """What a browser would send when it reconnects; a block without data moves it too."""
        self.retry: int | None = None
        self.comments = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._started = False
        self._text = ""
        self._after_cr = False
        self._data: list[str] = []
        self._type = ""
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """Parse what came; a block that the end of the stream cuts off is never dispatched."""
        text = self._decoder.decode(data)
        if text and not self._started:
            self._started = True
            text = text.removeprefix("\ufeff")
        self._text += text
        events: list[Event] = []
        while (line := self._next_line()) is not None:
            if line:
                self._line(line)
            else:
                events += self._dispatch()
        return events

    def _next_line(self) -> str | None:
        if self._after_cr and self._text:
            self._after_cr = False
            self._text = self._text.removeprefix("\n")
        found = _LINE_END.search(self._text)
        if found is None:
            return None
        line, self._text = self._text[: found.start()], self._text[found.end() :]
        self._after_cr = found[0] == "\r"
        return line

    def _line(self, line: str) -> None:
        name, colon, value = line.partition(":")
        if colon and not name:
            self.comments += 1
            return
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value)

    def _dispatch(self) -> list[Event]:
        self.last_event_id = self._id
        data, kind = self._data, self._type or "message"
        self._data, self._type = [], ""
        return [Event(kind, "\n".join(data), self.last_event_id)] if data else []


def parse_events(data: bytes) -> list[Event]:
    """Parse a whole stream."""
    return EventParser().feed(data)


@dataclass
class EventStream:
    """A stream that is being read: its head, its events one by one, and its end."""

    status: int
    headers: Mapping[str, str]
    read: Callable[[], Awaitable[bytes]]
    """Returns the next piece of the body, empty at its end."""
    parser: EventParser = field(default_factory=EventParser)
    body: bytes = b""
    ended: bool = False
    _pending: list[Event] = field(default_factory=list)
    _taken: str = ""

    @property
    def last_event_id(self) -> str:
        """What to resume from to get what was not taken yet."""
        return self._taken if self._pending else self.parser.last_event_id

    async def more(self) -> bool:
        """Read a piece; False at the end of the stream."""
        async with asyncio.timeout(_PATIENCE):
            piece = await self.read()
        self.body += piece
        self._pending += self.parser.feed(piece)
        self.ended = not piece
        return bool(piece)

    async def next(self) -> Event:
        """Return the next event."""
        while not self._pending:
            if not await self.more():
                raise EOFError(f"the stream ended after {self.body[-200:]!r}")
        event = self._pending.pop(0)
        self._taken = event.id
        return event

    def arrived(self) -> list[Event]:
        """Return the events that have come and were not taken yet."""
        events, self._pending = self._pending, []
        return events

    async def take(self, count: int) -> list[Event]:
        """Return the next events."""
        return [await self.next() for _ in range(count)]

    async def until_body(self, sought: bytes) -> None:
        """Read until these bytes were sent."""
        async with asyncio.timeout(_PATIENCE):
            while sought not in self.body:
                assert await self.more(), f"the stream ended after {self.body[-200:]!r}"

    async def rest(self) -> list[Event]:
        """Return the events up to the end of the stream."""
        while await self.more():
            pass
        return self.arrived()

    async def is_quiet(self, seconds: float = 0.5) -> bool:
        """Return True if no event comes for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._pending and await self.more():
                    pass
        return not self._pending


@contextlib.asynccontextmanager
async def asgi_stream(
    app: Callable[..., Awaitable[None]],
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    query: str = "",
    unread: int = 1_000_000,
) -> AsyncIterator[EventStream]:
    """Open a stream on an application in this process; leaving the block is the client going away.

    The application may be ``unread`` pieces ahead of the reader, then its ``send`` waits, as a server's does.
    """
    client = _AsgiClient(unread)
    fields = [(name.lower().encode(), value.encode()) for name, value in {"host": "example.com", **(headers or {})}.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": fields,
        "client": ("127.0.0.1", 1),
        "server": ("example.com", 443),
    }
    task = asyncio.ensure_future(app(scope, client.receive, client.send))
    task.add_done_callback(client.application_ended)
    try:
        async with asyncio.timeout(_PATIENCE):
            await client.started.wait()
        yield EventStream(client.status, client.headers, client.read)
    finally:
        client.leave()
        try:
            async with asyncio.timeout(_PATIENCE):
                await task
        except ConnectionError:
            pass  # the server would swallow what it raised itself


class _AsgiClient:
    """A server and its client in one."""

    def __init__(self, unread: int) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.started = asyncio.Event()
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(unread)
        self._gone = asyncio.Event()
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        if self._gone.is_set():
            raise ConnectionResetError("the client has left")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self.started.set()
            return
        await self._put(message.get("body", b""))
        if not message.get("more_body"):
            await self._put(b"")

    async def _put(self, piece: bytes) -> None:
        put = asyncio.ensure_future(self._pieces.put(piece))
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait((put, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            put.cancel()
            gone.cancel()

    async def read(self) -> bytes:
        return await self._pieces.get()

    def application_ended(self, _task: asyncio.Future[None]) -> None:
        self.started.set()
        with contextlib.suppress(asyncio.QueueFull):
            self._pieces.put_nowait(b"")

    def leave(self) -> None:
        self._gone.set()


class SocketStream:
    """An HTTP/1.1 client on a socket of its own: as slow, and as rude, as a test wants it to be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: str, *, limit: int = 1 << 16) -> Self:
        """Connect to ``http://host:port``; no more than about ``limit`` bytes are read ahead."""
        host, _, port = url.removeprefix("http://").partition(":")
        return cls(*await asyncio.open_connection(host, int(port), limit=limit))

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> EventStream:
        """Send a GET and return the response as a stream."""
        lines = [f"GET {path} HTTP/1.1", "host: localhost", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        fields = {name.lower(): value for name, value in fields.items()}
        chunked = fields.get("transfer-encoding") == "chunked"
        return EventStream(int(head[0].split()[1]), fields, self._chunk if chunked else self._some)

    async def _some(self) -> bytes:
        return await self._reader.read(1 << 16)

    async def _chunk(self) -> bytes:
        try:
            size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            data = await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("the response was cut off") from None
        return data

    def close(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()
