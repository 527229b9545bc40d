"""A request and its response over ASGI: request line and fields, body, disconnect, sending the response."""

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
    """A request: its line and fields as sent, its body, and its disconnect."""

    __slots__ = ("_disconnect", "_first_lines", "_path", "fields", "method", "query", "receive", "scheme", "scope")

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
        """Name, in lower case, and value of every field line, in the order in which they came."""
        self._first_lines: dict[bytes, bytes] | None = None
        self._disconnect: asyncio.Future[None] | None = None

    @property
    def path(self) -> str:
        """The raw path: percent-encoded as sent, without the query."""
        if self._path is None:
            self._path = raw_path(self.scope)
        return self._path

    @property
    def target(self) -> str:
        """The raw path with the query, as sent."""
        return f"{self.path}?{self.query.decode('latin-1')}" if self.query else self.path

    @property
    def authority(self) -> str:
        """Host and port; the scheme's default port if the client sent none."""
        host = (self.field(b"host") or b"").decode("latin-1")
        bare = host.rpartition("]")[2]  # an IPv6 address has colons of its own
        return host if ":" in bare or not host else host + _PORTS.get(self.scheme, "")

    def field(self, name: bytes) -> bytes | None:
        """Return the value of the first line of a field; None without one. ``name`` is lower case."""
        if self._first_lines is None:
            self._first_lines = dict(self.fields[::-1] if type(self.fields) is list else reversed(list(self.fields)))
        return self._first_lines.get(name)

    def lines(self, name: bytes) -> list[str]:
        """Return the value of every line of a field. ``name`` is lower case."""
        return [value.decode("latin-1") for each, value in self.fields if each == name]

    async def body(self, limit: int) -> bytes:
        """Read the whole body; raise :class:`ClientGone`, or a 413 :class:`Problem` for more than ``limit`` bytes."""
        length = self._declared_length()
        if length is not None and length > limit:
            raise self._too_large(limit)
        message = await self.receive()
        if message["type"] == "http.request":
            body: bytes = message.get("body", b"")
            # The usual case: the body is in one message. If content-length says so, the server is not asked for the last,
            # empty message: that would cost a turn of the event loop.
            if len(body) == length or not message.get("more_body"):
                if len(body) > limit:
                    raise self._too_large(limit)
                return body
        body_so_far = bytearray()
        while message["type"] == "http.request":
            body_so_far += message.get("body", b"")
            if len(body_so_far) > limit:
                raise self._too_large(limit)
            if not message.get("more_body"):
                return bytes(body_so_far)
            message = await self.receive()
        raise ClientGone

    def _declared_length(self) -> int | None:
        """Return ``content-length``; None if it is missing, malformed, or overridden (RFC 9112 section 6.3)."""
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
        """Read and discard the body; raise :class:`ClientGone` if the client disconnects before its end."""
        while (message := await self.receive())["type"] == "http.request":
            if not message.get("more_body"):
                return
        raise ClientGone

    def disconnect(self) -> asyncio.Future[None]:
        """Return the future that is done when the client has disconnected. Call it after the body was read.

        The same future for all of the request. Do not cancel it: :meth:`close` does.
        """
        if self._disconnect is None:
            self._disconnect = asyncio.ensure_future(until_disconnect(self.receive))
        return self._disconnect

    def cancel_on_disconnect(self) -> CancelOnDisconnect:
        """Return an async context that cancels its block and raises :class:`ClientGone` when the client disconnects."""
        return CancelOnDisconnect(self.disconnect())

    def close(self) -> None:
        """Cancel the disconnect task, if there is one. Call it when the response was sent."""
        if self._disconnect is not None:
            # In the next turn of the loop: cancelling a receive is slow on some servers, and nothing waits for it.
            self._disconnect.get_loop().call_soon(self._disconnect.cancel)


class Responder:
    """Sends the response to one request. ``head``: send the fields without the body."""

    __slots__ = ("_head", "_send", "started")

    def __init__(self, send: Send, *, head: bool) -> None:
        self._send = send
        self._head = head
        self.started = False

    async def respond(self, status: int, fields: Fields, body: bytes = b"") -> None:
        """Send a whole response; adds ``content-length`` where the status allows a body (RFC 9110 section 8.6).

        Not for HEAD without a body: the length would have to be that of the response to GET, which is unknown here.
        """
        if status != 204 and status != 304 and (body or not self._head):
            fields.append((b"content-length", str(len(body)).encode()))
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        await self._send({"type": "http.response.body", "body": b"" if self._head else body})

    async def stream(self, status: int, fields: Fields, pieces: AsyncIterator[bytes]) -> None:
        """Send a response in several messages."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        if not self._head:
            async for piece in pieces:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def refuse(self, error: Exception, route: str, retry_seconds: int) -> bool:
        """Send the problem for an error; return False if a response has begun.

        The traceback of ``error`` refers to the frames it passed. No frame may keep a reference to the error, or both wait for
        the cyclic garbage collector.
        """
        problem = as_problem(error, route, retry_seconds)
        if self.started:
            return False
        await self.problem(problem, route)
        return True

    async def problem(self, problem: Problem, route: str) -> None:
        """Send a problem. ``route``: the name of the route, empty if none matched."""
        fields = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"), *problem.fields]
        await self.respond(problem.status, fields, problem.body(route))


def raw_path(scope: Scope) -> str:
    """Return the raw path: percent-encoded as sent, without the query."""
    raw: bytes | None = scope.get("raw_path")
    if raw is None:  # optional in ASGI: only the decoded path is known then
        return quote(scope["path"], safe="/!$&'()*+,;=:@~")
    return raw.partition(b"?")[0].decode("latin-1")
