"""One HTTP request at the level of ASGI, for what a client library does not let a test do: send half a body, hang up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kafkaproxy.worker.types import Role
from tests.support.proxy import CLUSTER, Proxy

__all__ = ["Exchange", "assert_nobody_waits", "until", "until_ready"]

_PATIENCE = 60.0


class Exchange:
    """A request under way. The body is what :meth:`send` is given; the client stays until :meth:`hang_up`."""

    def __init__(
        self,
        app: Any,
        method: str,
        path: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        host: str = "example.com:9090",
        **scope: Any,
    ) -> None:
        self.messages: list[dict[str, Any]] = []
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        given = headers.items() if isinstance(headers, Mapping) else headers
        raw, _, query = path.partition("?")
        full = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": raw,
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", host.encode()), *((n.lower().encode(), v.encode("latin-1")) for n, v in given)],
            **scope,
        }
        self._task = asyncio.ensure_future(
            app({k: v for k, v in full.items() if v is not None}, self._incoming.get, self._sent)
        )

    def send(self, body: bytes = b"", *, more: bool = False) -> None:
        """Send a piece of the body; the last one unless ``more``."""
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        """Disconnect."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def end(self) -> None:
        """Wait until the application is done with the request."""
        await asyncio.wait_for(self._task, _PATIENCE)

    @property
    def done(self) -> bool:
        """Whether the application is done with the request."""
        return bool(self._task.done())

    @property
    def status(self) -> int | None:
        """The status; None where nothing was answered."""
        return self.messages[0]["status"] if self.messages else None

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The fields of the answer."""
        return [tuple(field) for field in self.messages[0]["headers"]]

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    async def _sent(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(_PATIENCE):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


async def until_ready(proxy: Proxy, replies: str) -> None:
    """Wait until the proxy has read a reply topic, for tests of what happens after that."""
    await proxy.runtime.worker.cluster(CLUSTER).ready(replies, Role.REPLY, _PATIENCE)


def assert_nobody_waits(proxy: Proxy) -> None:
    """Nothing is left of any wait: no count, no waiter, no shared exchange."""
    worker = proxy.runtime.worker
    hub = worker.cluster(CLUSTER).hub()
    assert worker.waiting == 0
    assert (hub._topic_waiters, hub._exchanges) == ({}, {})
