"""Work for a client goes on as long as the client is there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafkaproxy.consumers.http import ClientGone, Request


class Client:
    """What a server tells of a client: nothing, until it leaves."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.request = Request({"method": "POST", "scheme": "http", "headers": []}, self.receive)

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_the_outcome_of_the_work_is_returned() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await Client().request.unless_gone(work()) == 7


async def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Client().request.unless_gone(work())


async def test_the_work_is_cancelled_when_the_client_leaves() -> None:
    client = Client()
    ended: list[str] = []

    async def work() -> None:
        try:
            client.left.set()
            await asyncio.sleep(60)
        finally:
            ended.append("work")

    with pytest.raises(ClientGone):
        await client.request.unless_gone(work())
    assert ended == ["work"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left that would cancel us now


async def test_work_does_not_begin_for_a_client_that_has_left() -> None:
    client = Client()
    client.left.set()
    begun: list[str] = []

    async def work() -> None:
        begun.append("work")

    with pytest.raises(ClientGone):
        await client.request.unless_gone(work())
    assert begun == []


async def test_a_client_that_leaves_as_the_work_ends_changes_nothing_later() -> None:
    client = Client()

    async def work() -> int:
        client.left.set()
        return 7

    assert await client.request.unless_gone(work()) == 7
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_end_of_the_time_is_told_apart_from_the_client() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Client().request.unless_gone(asyncio.sleep(60))


async def test_a_cancellation_from_outside_stays_one() -> None:
    client = Client()

    async def serve() -> None:
        await client.request.unless_gone(asyncio.sleep(60))

    task = asyncio.ensure_future(serve())
    await asyncio.sleep(0.01)
    task.cancel()
    client.left.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    early = asyncio.ensure_future(serve())
    await asyncio.sleep(0)
    early.cancel()
    with pytest.raises((asyncio.CancelledError, ClientGone)):
        await early


async def test_a_server_that_fails_to_say_so_means_the_same() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        raise OSError("connection reset")

    request = Request({"method": "POST", "scheme": "http", "headers": []}, receive)
    with pytest.raises(ClientGone):
        await request.unless_gone(asyncio.sleep(60))
