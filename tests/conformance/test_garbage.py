"""A request leaves nothing behind that only the cyclic garbage collector could free: it would run all the time."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import pytest

from tests.conformance.conftest import StartProxy, StartService
from tests.support.exchange import Exchange, until
from tests.support.proxy import Proxy, fetch, produce, stream

Ask = Callable[[], Awaitable[Exchange]]


@pytest.fixture
def proxy(start: StartProxy, service: StartService, topics: Mapping[str, str]) -> Proxy:
    service(topics["commands"])
    return start(
        fetch("GET /items/{id}", topic=topics["items"], filters=[{"key": "${params.id}"}]),
        fetch("GET /items", topic=topics["items"], merge=True),
        stream("GET /events", topic=topics["items"]),
        produce("PUT /items/{id}", topic=topics["items"], key="${params.id}"),
        produce("POST /commands", topic=topics["commands"], reply_to=topics["replies"]),
    )


async def _whole(proxy: Proxy, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Exchange:
    asked = Exchange(proxy.app, method, path, headers)
    asked.send(body)
    await asked.end()
    return asked


async def _streamed(proxy: Proxy, path: str) -> Exchange:
    asked = Exchange(proxy.app, "GET", path)
    asked.send()
    await until(lambda: len(asked.messages) > 2)
    asked.hang_up()
    await asked.end()
    return asked


CASES = {
    "oneway": ("PUT", "/items/2", {"content-length": "1"}, b"x", 204),
    "oneway without a length": ("PUT", "/items/2", {}, b"x", 204),
    "sync": ("POST", "/commands", {}, b"x", 200),
    "sync, idempotent": ("POST", "/commands", {"idempotency-key": "k"}, b"x", 200),
    "fetch": ("GET", "/items/1", {"prefer": "wait=0"}, b"", 200),
    "fetch, kept": ("GET", "/items/1", {}, b"", 200),
    "merge": ("GET", "/items", {}, b"", 200),
    "not there": ("GET", "/items/none", {}, b"", 404),
    "not allowed": ("DELETE", "/items/1", {}, b"", 405),
    "stream": ("GET", "/events", {}, b"", 200),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_request_leaves_no_cycles(case: str, proxy: Proxy) -> None:
    method, path, headers, body, status = CASES[case]

    async def ask() -> None:
        if case == "stream":
            asked = await _streamed(proxy, path)
        else:
            asked = await _whole(proxy, method, path, headers, body)
        assert asked.status == status

    await ask()  # what is made once may stay
    await asyncio.sleep(0.2)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(3):
            await ask()
        await asyncio.sleep(0.2)
        gc.collect()
        left = Counter(type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith("kafkaproxy."))
        requests = sum(1 for each in gc.garbage if isinstance(each, dict) and each.get("type") == "http")
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert (left, requests) == (Counter(), 0)
