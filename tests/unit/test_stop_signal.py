"""A server that hears of signals through asyncio hears of them though the loop's pipe is full at that moment."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from kafkaproxy.streaming.registry import StreamRegistry


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _fill_the_pipe(loop: asyncio.AbstractEventLoop) -> None:
    """As thousands of calls from other threads do while the loop is busy; asyncio ignores what does not fit, too."""
    try:
        while True:
            loop._csock.send(b"\0" * 4096)  # type: ignore[attr-defined]
    except BlockingIOError:
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python says that the signal was lost
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_that_asyncio_loses_comes_again(number: signal.Signals) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(number, stopping.set)
    streams = StreamRegistry()
    streams.watch_signals()
    _fill_the_pipe(loop)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(stopping.wait(), 10)
    assert streams.draining
    loop.remove_signal_handler(number)


async def test_the_servers_own_handler_is_called_once_where_nothing_is_lost() -> None:
    calls: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: calls.append(number))
    streams = StreamRegistry()
    streams.watch_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0)
    assert calls == [signal.SIGTERM]
