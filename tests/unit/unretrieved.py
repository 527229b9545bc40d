"""Watches for errors of futures and tasks that nothing retrieved, which asyncio reports when it forgets them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def no_unretrieved_error() -> AsyncIterator[None]:
    """Fail where the loop's exception handler is called in the block, or for what is forgotten at its end."""
    loop = asyncio.get_running_loop()
    reported: list[str] = []

    def report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        reported.append(context["message"])

    before = loop.get_exception_handler()
    loop.set_exception_handler(report)
    try:
        yield
        await asyncio.sleep(0)
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    assert not reported, reported
