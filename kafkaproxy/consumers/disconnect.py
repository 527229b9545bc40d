"""Cancel on disconnect: work for a client stops when the client leaves.

A request's ``receive`` is called for this by one task, which begins when something first waits and is cancelled only after the
answer. With Granian a ``receive`` may report a disconnect falsely after an earlier one was cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["CancelOnDisconnect", "ClientGone", "Receive", "until_disconnect"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client disconnected; no answer can reach it."""


async def until_disconnect(receive: Receive) -> None:
    """Return when the client disconnects. What is left of the body is dropped, so the body has to be read before."""
    with contextlib.suppress(Exception):  # from a server that raises where it should report a disconnect
        while (await receive())["type"] != "http.disconnect":
            pass


class CancelOnDisconnect:
    """Cancels what its block awaits when the client leaves, as ``asyncio.timeout`` does at the end of a time.

    The block then raises :class:`ClientGone`; it is not entered where the client has left already. Blocks may be nested.
    """

    __slots__ = ("_cancelling", "_disconnect", "_has_cancelled", "_is_inside", "_task")

    def __init__(self, disconnect: asyncio.Future[None]) -> None:
        """``disconnect`` is done when the client has left."""
        self._disconnect = disconnect
        self._is_inside = True
        self._has_cancelled = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        await asyncio.sleep(0)  # a task that watches begins, and is done where the server knows already that the client left
        if self._disconnect.done():
            raise ClientGone
        self._disconnect.add_done_callback(self._cancel)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_inside = False
        self._disconnect.remove_done_callback(self._cancel)
        if self._has_cancelled and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientGone

    def _cancel(self, disconnect: asyncio.Future[None]) -> None:
        # The block may be over by the time that the loop calls this. A watch that was cancelled says nothing of the client.
        if self._is_inside and not disconnect.cancelled():
            self._has_cancelled = True
            self._task.cancel()
