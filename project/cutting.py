"""Breaks the connection of a stream, as a network does, so that the page can show what happens then. For the demo only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:  # the module starts Twisted, and the site may be on another server
    from daphne.server import Server

__all__ = ["cut", "served_by"]

_servers: list[Server] = []


def served_by(server: Server) -> None:
    """Say which server this process is; no ASGI server lets an application abort a connection, so we have to know it."""
    _servers.append(server)


def cut(page: str) -> int:
    """Abort the connections of streams that were opened with ``?page=``, without a word to the client; return how many."""
    found = [request for server in _servers for request in server.connections if _page(request) == [page]]
    for request in found:
        request.channel.transport.abortConnection()
    return len(found)


def _page(request: Any) -> list[str] | None:
    """Return what a stream's request says; None for another request, and for one whose connection is gone."""
    if getattr(request, "channel", None) is None:
        return None
    url = urlsplit(request.uri.decode("latin-1"))
    return parse_qs(url.query).get("page") if url.path == "/stream" else None
