"""The lifespan protocol: ours first and last, the wrapped application's in between if it takes part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from kafkaproxy.http.request import Receive, Scope, Send

__all__ = ["run_lifespan"]

log = logging.getLogger("kafkaproxy.asgi")

# Servers and Django's stubs each type scope, receive and send their own way; a stricter alias would refuse some of them.
Application = Callable[[Any, Any, Any], Awaitable[None]]
Step = Callable[[], Awaitable[object]]


async def run_lifespan(inner: Application, scope: Scope, receive: Receive, send: Send, start: Step, stop: Step) -> None:
    """Serve one lifespan scope. Django's own application refuses it; that is no error."""
    wrapped = _Wrapped(inner, scope)
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await start()
                await wrapped.startup()
            except Exception as error:
                log.exception("startup_failed")
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await wrapped.shutdown()
            await stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


class _Wrapped:
    """The wrapped application's side, for as long as it takes part."""

    def __init__(self, inner: Application, scope: Scope) -> None:
        self._to_inner: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._from_inner: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._task = asyncio.ensure_future(inner(scope, self._to_inner.get, self._from_inner.put))

    async def startup(self) -> None:
        """Start it; raise where it says that it failed."""
        answer = await self._say("lifespan.startup")
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            raise RuntimeError(answer.get("message") or "The wrapped application failed to start.")

    async def shutdown(self) -> None:
        """Stop it."""
        await self._say("lifespan.shutdown")

    async def _say(self, kind: str) -> MutableMapping[str, Any] | None:
        """Send a message and return the answer; None where the application has ended, or never knew the protocol."""
        if self._task.done():
            self._take_exception()
            return None
        await self._to_inner.put({"type": kind})
        answer = asyncio.ensure_future(self._from_inner.get())
        await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        self._take_exception()
        return None

    def _take_exception(self) -> None:
        """An application that does not know the protocol ends it with an exception; that is no error."""
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            log.debug("wrapped application without lifespan: %s", error)
