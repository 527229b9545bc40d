"""Futures that outlive the wait for them: asyncio is not to log their errors as never retrieved."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

__all__ = ["abandon", "await_shared", "retrieve"]

T = TypeVar("T")


async def await_shared(future: asyncio.Future[T]) -> T:
    """Return the result of a future that others may wait for too. A cancelled wait leaves the future as it is.

    With ``asyncio.shield`` an error that comes after the cancellation would be logged.
    """
    if not future.done():
        future.add_done_callback(retrieve)
        await asyncio.wait((future,))
    return future.result()


def abandon(future: asyncio.Future[Any]) -> None:
    """Cancel a future whose outcome is of no use any more; an error that it ends with all the same is not logged."""
    if future.done():
        retrieve(future)
    else:
        future.add_done_callback(retrieve)
        future.cancel()


def retrieve(future: asyncio.Future[Any]) -> None:
    """Mark the error of a future that is done, if it has one, as retrieved."""
    if not future.cancelled():
        future.exception()
