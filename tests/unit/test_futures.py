"""Futures whose caller left: an error that comes later is not logged as never retrieved."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafkaproxy.core.futures import abandon, await_shared
from kafkaproxy.http.request import Request
from kafkaproxy.streaming.page_cache import FramePage, PageCache
from tests.unit.unretrieved import no_unretrieved_error


async def left(work: Any) -> None:
    """Begin to wait and cancel the wait."""
    waiting = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_is_watched_for_is_reported() -> None:
    async def forget() -> None:
        async with no_unretrieved_error():
            asyncio.get_running_loop().create_future().set_exception(ValueError("no"))

    with pytest.raises(AssertionError, match="never retrieved"):
        await forget()


async def test_an_error_after_the_last_caller_left() -> None:
    async with no_unretrieved_error():
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await left(await_shared(future))
        assert not future.done()
        future.set_exception(ValueError("no"))
        del future


async def test_every_caller_gets_the_outcome() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    callers = [asyncio.ensure_future(await_shared(future)) for _ in range(3)]
    await left(await_shared(future))
    future.set_result(7)
    assert await asyncio.gather(*callers) == [7, 7, 7]
    assert await await_shared(future) == 7
    failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    caller = asyncio.ensure_future(await_shared(failed))
    await asyncio.sleep(0)
    failed.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await caller
    with pytest.raises(ValueError, match="no"):
        await await_shared(failed)


async def test_an_abandoned_future_may_fail() -> None:
    async def fails_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("no") from None

    async def fails() -> None:
        raise ValueError("no")

    async with no_unretrieved_error():
        for work in (fails(), fails_when_cancelled()):
            task = asyncio.ensure_future(work)
            await asyncio.sleep(0)
            abandon(task)
            await asyncio.wait((task,))
            del task


async def test_a_page_whose_reader_left() -> None:
    async def read() -> FramePage:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("no") from None
        raise AssertionError

    async with no_unretrieved_error():
        await left(PageCache().shared("key", read))
        await asyncio.sleep(0)


async def test_a_server_that_fails_after_the_answer() -> None:
    async def receive() -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("connection reset") from None
        raise AssertionError

    async with no_unretrieved_error():
        request = Request({"method": "GET", "scheme": "http", "headers": []}, receive)
        async with request.cancel_on_disconnect():
            await asyncio.sleep(0)
        request.close()
        await asyncio.sleep(0.01)
        del request
