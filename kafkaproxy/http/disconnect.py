"""Cancel on disconnect: work for a client stops when the client disconnects.

One task per request calls ``receive`` for this. It starts with the first wait and is cancelled only after the response: on
Granian, a ``receive`` after a cancelled one may report a disconnect that did not happen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["CancelOnDisconnect", "ClientGone", "Receive", "until_disconnect"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client has disconnected, so no response can reach it."""


async def until_disconnect(receive: Receive) -> None:
    """Return when the client disconnects. Discards what is left of the body, so read the body first."""
    with contextlib.suppress(Exception):  # some servers raise an error instead of reporting a disconnect
        while (await receive())["type"] != "http.disconnect":
            pass


class CancelOnDisconnect:
    """Cancels what its ``async with`` block awaits when the client disconnects, as ``asyncio.timeout`` does after a time.

    The block then raises :class:`ClientGone`; so does entering it after a disconnect. Blocks may be nested.
    """

    __slots__ = ("_cancelling", "_disconnect", "_has_cancelled", "_is_inside", "_task")

    def __init__(self, disconnect: asyncio.Future[None]) -> None:
        """``disconnect`` is done when the client has disconnected."""
        self._disconnect = disconnect
        self._is_inside = True
        self._has_cancelled = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        # Lets a new disconnect task run once: it is done at once if the server has already seen the client disconnect.
        await asyncio.sleep(0)
        if self._disconnect.done():
            raise ClientGone
        self._disconnect.add_done_callback(self._cancel)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_inside = False
        self._disconnect.remove_done_callback(self._cancel)
        if self._has_cancelled and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientGone

    def _cancel(self, disconnect: asyncio.Future[None]) -> None:
        # The loop may call this after the block has ended. A cancelled disconnect task does not mean a disconnect.
        if self._is_inside and not disconnect.cancelled():
            self._has_cancelled = True
            self._task.cancel()
