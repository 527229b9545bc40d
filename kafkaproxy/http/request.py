"""The HTTP side of an ASGI scope: what a request says, reading its body, cancelling on disconnect, answering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import quote

from kafkaproxy.http.disconnect import CancelOnDisconnect, ClientGone, Receive, until_disconnect
from kafkaproxy.http.problems import Fields, Problem, as_problem

__all__ = ["ClientGone", "Receive", "Request", "Responder", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PORTS: Final = {"http": ":80", "https": ":443"}


class Request:
    """A request: its line and fields as they were sent, and its body once it was read."""

    __slots__ = ("_disconnect", "_first", "_path", "fields", "method", "query", "receive", "scheme", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        """As it was sent: methods are case-sensitive."""
        self.scheme: str = scope["scheme"]
        """``http`` or ``https``, as the server says."""
        self._path: str | None = None
        self.query: bytes = scope.get("query_string") or b""
        """Percent-encoded, without the question mark."""
        self.fields: list[tuple[bytes, bytes]] = scope["headers"]
        """In order, names in lower case; a field may have several lines."""
        self._first: dict[bytes, bytes] | None = None
        self._disconnect: asyncio.Future[None] | None = None

    @property
    def path(self) -> str:
        """The path as it was sent, percent-encoded and without its query."""
        if self._path is None:
            self._path = raw_path(self.scope)
        return self._path

    @property
    def target(self) -> str:
        """The path with its query, as it was sent."""
        return f"{self.path}?{self.query.decode('latin-1')}" if self.query else self.path

    @property
    def authority(self) -> str:
        """The host with its port; the scheme's default port is added where the client left it out."""
        host = (self.field(b"host") or b"").decode("latin-1")
        bare = host.rpartition("]")[2]  # an IPv6 address has colons of its own
        return host if ":" in bare or not host else host + _PORTS.get(self.scheme, "")

    def field(self, name: bytes) -> bytes | None:
        """Return the first line of a field, by its name in lower case; None where there is none."""
        if self._first is None:
            self._first = dict(self.fields[::-1] if type(self.fields) is list else reversed(list(self.fields)))
        return self._first.get(name)

    def lines(self, name: bytes) -> list[str]:
        """Return every line of a field, by its name in lower case."""
        return [value.decode("latin-1") for each, value in self.fields if each == name]

    async def body(self, limit: int) -> bytes:
        """Read the whole body; raise :class:`ClientGone`, or a 413 :class:`Problem` for more than ``limit`` bytes."""
        length = self._declared_length()
        if length is not None and length > limit:
            raise self._too_large(limit)
        message = await self.receive()
        if message["type"] == "http.request":
            body: bytes = message.get("body", b"")
            # In one piece, the usual case. A server that has yet to say that it was the last is not asked: that takes a turn.
            if len(body) == length or not message.get("more_body"):
                if len(body) > limit:
                    raise self._too_large(limit)
                return body
        pieces = bytearray()
        while message["type"] == "http.request":
            pieces += message.get("body", b"")
            if len(pieces) > limit:
                raise self._too_large(limit)
            if not message.get("more_body"):
                return bytes(pieces)
            message = await self.receive()
        raise ClientGone

    def _declared_length(self) -> int | None:
        """Return how long the body is; None where ``content-length`` does not say, or is overridden (RFC 9112 section 6.3)."""
        declared = self.field(b"content-length")
        if declared is None or not declared.isdigit() or self.field(b"transfer-encoding") is not None:
            return None
        return int(declared)

    def _too_large(self, limit: int) -> Problem:
        detail = f"The body is larger than {limit} bytes, the most this site takes: send less."
        # The rest of the body is not read, so an HTTP/1 connection cannot be used again; HTTP/2 has no such field (RFC 9113
        # section 8.2.2) and just ends the stream.
        is_http_1 = str(self.scope.get("http_version", "1.1")).startswith("1")
        return Problem(413, "body-too-large", detail, [(b"connection", b"close")] if is_http_1 else [])

    async def skip_body(self) -> None:
        """Read past a body that has no meaning."""
        while (message := await self.receive())["type"] == "http.request":
            if not message.get("more_body"):
                return
        raise ClientGone

    def disconnect(self) -> asyncio.Future[None]:
        """Return what is done when the client has left, the same future for all of the request; call after the body was read.

        Do not cancel it: see :meth:`close`.
        """
        if self._disconnect is None:
            self._disconnect = asyncio.ensure_future(until_disconnect(self.receive))
        return self._disconnect

    def cancel_on_disconnect(self) -> CancelOnDisconnect:
        """Return a context that cancels what is awaited in it, and raises :class:`ClientGone`, when the client leaves."""
        return CancelOnDisconnect(self.disconnect())

    def close(self) -> None:
        """End the watch for a disconnect, if one began; call when the answer was sent."""
        if self._disconnect is not None:
            # Later: it costs a server more than a moment, and nothing waits for it.
            self._disconnect.get_loop().call_soon(self._disconnect.cancel)


class Responder:
    """Answers one request. ``head`` requests get the fields and no body."""

    __slots__ = ("_head", "_send", "started")

    def __init__(self, send: Send, *, head: bool) -> None:
        self._send = send
        self._head = head
        self.started = False

    async def respond(self, status: int, fields: Fields, body: bytes = b"") -> None:
        """Send a whole response; ``content-length`` is added where a body may be (RFC 9110 section 8.6).

        A HEAD whose body nobody knows gets none: it would have to be that of GET.
        """
        if status != 204 and status != 304 and (body or not self._head):
            fields.append((b"content-length", str(len(body)).encode()))
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        await self._send({"type": "http.response.body", "body": b"" if self._head else body})

    async def stream(self, status: int, fields: Fields, pieces: AsyncIterator[bytes]) -> None:
        """Send a response piece by piece."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        if not self._head:
            async for piece in pieces:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def refuse(self, error: Exception, route: str, retry_seconds: int) -> bool:
        """Answer with what went wrong; return False where an answer has begun.

        The problem may be the error itself, which refers to every frame it passed: none of them may refer to it.
        """
        problem = as_problem(error, route, retry_seconds)
        if self.started:
            return False
        await self.problem(problem, route)
        return True

    async def problem(self, problem: Problem, route: str) -> None:
        """Send an error."""
        fields = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"), *problem.fields]
        await self.respond(problem.status, fields, problem.body(route))


def raw_path(scope: Scope) -> str:
    """Return the path as it was sent, percent-encoded and without its query."""
    raw: bytes | None = scope.get("raw_path")
    if raw is None:  # a server that does not tell: what it decoded is all there is
        return quote(scope["path"], safe="/!$&'()*+,;=:@~")
    return raw.partition(b"?")[0].decode("latin-1")
