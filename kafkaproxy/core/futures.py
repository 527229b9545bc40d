"""Futures that outlive the wait for them: keeps asyncio from logging that their errors were never retrieved."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

__all__ = ["abandon", "await_shared", "retrieve"]

T = TypeVar("T")


async def await_shared(future: asyncio.Future[T]) -> T:
    """Return the result of a future that other callers may wait for too. Cancelling the wait does not cancel the future.

    With ``asyncio.shield`` an error that comes after the cancellation would be logged.
    """
    if not future.done():
        future.add_done_callback(retrieve)
        await asyncio.wait((future,))
    return future.result()


def abandon(future: asyncio.Future[Any]) -> None:
    """Cancel a future whose outcome is no longer needed; if it fails all the same, that is not logged."""
    if future.done():
        retrieve(future)
    else:
        future.add_done_callback(retrieve)
        future.cancel()


def retrieve(future: asyncio.Future[Any]) -> None:
    """Mark the error of a future that is done as retrieved, if it has one."""
    if not future.cancelled():
        future.exception()
