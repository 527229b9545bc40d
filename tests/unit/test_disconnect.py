"""Cancel on disconnect: work for a client goes on as long as the client is there, and the server is asked once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kafkaproxy.http.request import ClientGone, Request


class Client:
    """What a server tells of a client: nothing, until it leaves. As Granian's, it takes a cancelled call for a disconnect."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.calls = 0
        self.request = Request({"method": "POST", "scheme": "http", "headers": []}, self.receive)

    async def receive(self) -> dict[str, Any]:
        self.calls += 1
        try:
            await self.left.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        return {"type": "http.disconnect"}

    async def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async with self.request.cancel_on_disconnect():
            return await work()


async def forever() -> None:
    await asyncio.Event().wait()


async def a_turn() -> int:
    await asyncio.sleep(0)
    return 7


async def test_the_outcome_of_the_work_is_returned() -> None:
    assert await Client().run(a_turn) == 7


async def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Client().run(work)


async def test_the_work_is_cancelled_when_the_client_leaves() -> None:
    client = Client()
    ended: list[str] = []

    async def work() -> None:
        try:
            client.left.set()
            await forever()
        finally:
            ended.append("work")

    with pytest.raises(ClientGone):
        await client.run(work)
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

    for _ in range(2):
        with pytest.raises(ClientGone):
            await client.run(work)
    assert begun == []


async def test_a_client_that_leaves_as_the_work_ends_changes_nothing_later() -> None:
    client = Client()

    async def work() -> int:
        client.left.set()
        return 7

    assert await client.run(work) == 7
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_timeout_is_not_a_disconnect() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Client().run(forever)


async def test_a_request_that_waits_several_times_asks_its_server_once() -> None:
    client = Client()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.run(forever)
        assert await client.run(a_turn) == 7
    disconnect = client.request.disconnect()
    assert not disconnect.done()
    assert client.calls == 1
    client.left.set()
    with pytest.raises(ClientGone):
        await client.run(forever)
    assert disconnect.done()
    assert client.calls == 1


async def test_what_waits_inside_of_what_waits_is_cancelled_too() -> None:
    client = Client()

    async def inner() -> None:
        asyncio.get_running_loop().call_later(0.01, client.left.set)
        await client.run(forever)

    with pytest.raises(ClientGone):
        await client.run(inner)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert client.calls == 1


async def test_the_rest_of_a_body_is_no_disconnect() -> None:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await forever()
        return messages.pop()

    request = Request({"method": "POST", "scheme": "http", "headers": []}, receive)
    async with request.cancel_on_disconnect():
        for _ in range(5):
            await asyncio.sleep(0)
    assert not messages


async def test_the_server_is_asked_no_longer_after_the_answer() -> None:
    client = Client()
    assert await client.run(a_turn) == 7
    disconnect = client.request.disconnect()
    client.request.close()
    assert not disconnect.done()  # while the answer is on its way
    with pytest.raises(asyncio.CancelledError):
        await disconnect
    assert client.calls == 1


async def test_a_request_that_does_not_wait_asks_nothing() -> None:
    client = Client()
    client.request.close()
    await asyncio.sleep(0)
    assert client.calls == 0


async def test_a_cancellation_from_outside_stays_one() -> None:
    client = Client()

    async def serve() -> None:
        await client.run(forever)

    task = asyncio.ensure_future(serve())
    await asyncio.sleep(0.01)
    task.cancel()
    client.left.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_from_outside_at_the_beginning_stays_one() -> None:
    client = Client()
    task = asyncio.ensure_future(client.run(forever))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not client.request.disconnect().done()


async def test_a_server_that_raises_reports_a_disconnect() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        raise OSError("connection reset")

    request = Request({"method": "POST", "scheme": "http", "headers": []}, receive)
    with pytest.raises(ClientGone):
        async with request.cancel_on_disconnect():
            await forever()
