"""The lifespan protocol: we start before the wrapped application and stop after it, if it supports the protocol."""

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
LifespanStep = Callable[[], Awaitable[object]]


async def run_lifespan(
    inner: Application, scope: Scope, receive: Receive, send: Send, start: LifespanStep, stop: LifespanStep
) -> None:
    """Serve one lifespan scope. Django's own application raises an error for it, which is ignored."""
    wrapped = _WrappedLifespan(inner, scope)
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


class _WrappedLifespan:
    """Runs the lifespan of the wrapped application, if it supports the protocol."""

    def __init__(self, inner: Application, scope: Scope) -> None:
        self._to_inner: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._from_inner: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._task = asyncio.ensure_future(inner(scope, self._to_inner.get, self._from_inner.put))

    async def startup(self) -> None:
        """Start the application; raise ``RuntimeError`` if it reports a failure."""
        answer = await self._exchange("lifespan.startup")
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            raise RuntimeError(answer.get("message") or "The wrapped application failed to start.")

    async def shutdown(self) -> None:
        """Stop the application."""
        await self._exchange("lifespan.shutdown")

    async def _exchange(self, kind: str) -> MutableMapping[str, Any] | None:
        """Send a message and return the reply; None if the application has returned or does not support the protocol."""
        if self._task.done():
            self._retrieve_exception()
            return None
        await self._to_inner.put({"type": kind})
        answer = asyncio.ensure_future(self._from_inner.get())
        await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        self._retrieve_exception()
        return None

    def _retrieve_exception(self) -> None:
        """Log the exception at debug level: an application that does not support the protocol raises one."""
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            log.debug("wrapped_application_without_lifespan error=%s", error)
