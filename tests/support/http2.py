"""An HTTP/2 client with one connection, whose streams are all read as their data comes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from tests.support.streams import Event, EventParser

__all__ = ["Exchange", "Http2Connection", "connected"]

_WINDOW = 1 << 24


@dataclass
class Exchange:
    """A stream of the connection: what has come of the response so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: list[Event] = field(default_factory=list)
    """The body as server-sent events."""
    ended: bool = False
    """True if the server ended it."""
    broken: str = ""
    """How it broke, if it did."""
    parser: EventParser = field(default_factory=EventParser)

    def data(self, kind: str) -> list[str]:
        """Return the data of the events of a type."""
        return [event.data for event in self.events if event.type == kind]


class Http2Connection:
    """One connection. :func:`connected` opens it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self._reader = reader
        self._writer = writer
        self._authority = authority
        self._h2 = H2Connection()
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW)
        self._exchanges: dict[int, Exchange] = {}
        self._changed = asyncio.Event()
        self._over = ""
        self._flush()

    async def begin(self, method: str, path: str, headers: Mapping[str, str]) -> Exchange:
        """Send a request without a body; return when its head has come."""
        number = self._h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", self._authority), (":path", path)]
        self._h2.send_headers(number, [*pseudo, *headers.items()], end_stream=True)
        self._flush()
        exchange = self._exchanges[number] = Exchange(broken=self._over)
        while not exchange.status and not exchange.broken:
            await self.change()
        return exchange

    async def request(self, method: str, path: str, headers: Mapping[str, str]) -> Exchange:
        """Send a request without a body; return when the whole response has come."""
        exchange = await self.begin(method, path, headers)
        while not exchange.ended and not exchange.broken:
            await self.change()
        return exchange

    async def change(self) -> None:
        """Wait until something comes."""
        self._changed.clear()
        async with asyncio.timeout(60):
            await self._changed.wait()

    async def read(self) -> None:
        """Read until the server closes the connection."""
        try:
            while data := await self._reader.read(1 << 16):
                for event in self._h2.receive_data(data):
                    self._take(event)
                self._flush()
                self._changed.set()
        finally:
            self._over = "the connection is over"
            for exchange in self._exchanges.values():
                if not exchange.ended:
                    exchange.broken = exchange.broken or self._over
            self._changed.set()

    def _take(self, event: Any) -> None:
        if isinstance(event, ConnectionTerminated):
            return
        exchange = self._exchanges.get(getattr(event, "stream_id", 0) or 0)
        if exchange is None:
            return
        match event:
            case ResponseReceived():
                exchange.headers = {_text(name): _text(value) for name, value in event.headers}
                exchange.status = int(exchange.headers.pop(":status"))
            case DataReceived():
                exchange.body += event.data
                exchange.events += exchange.parser.feed(event.data)
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                exchange.ended = True
            case StreamReset():
                exchange.broken = f"reset: {event.error_code}"

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())


@asynccontextmanager
async def connected(url: str, verify: ssl.SSLContext) -> AsyncIterator[Http2Connection]:
    """Connect to ``https://host:port`` with TLS and ALPN; leaving the block drops the connection."""
    host, _, port = url.removeprefix("https://").partition(":")
    verify.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(host, int(port), ssl=verify)
    connection = Http2Connection(reader, writer, f"{host}:{port}")
    reading = asyncio.ensure_future(connection.read())
    try:
        yield connection
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        writer.transport.abort()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
