"""What fault tests ask a proxy, until the answer is what a change behind it makes it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Final

import httpx

from kafkaproxy.routing.table import Gateway
from tests.support.proxy import Proxy, fetch, gateway, produce

PATIENCE: Final = 60.0


def unique(stem: str) -> str:
    """Return a topic name that no other test uses."""
    return f"{stem}-{uuid.uuid4().hex[:8]}"


def items(topic: str) -> Gateway:
    """Return the routes of most tests: PUT and GET of an item, POST of an event, all of them as one array."""
    return gateway(
        produce("PUT /items/{id}", topic=topic, key="${params.id}", name="put"),
        produce("POST /items", topic=topic, name="post"),
        fetch("GET /items/{id}", topic=topic, filters=[{"key": "${params.id}"}], name="one"),
        fetch("GET /items", topic=topic, merge=True, name="all"),
    )


async def get(proxy: Proxy, path: str, **headers: str) -> httpx.Response:
    """GET; header names are written with underscores."""
    return await proxy.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def until(proxy: Proxy, path: str, arrived: Callable[[httpx.Response], bool], **headers: str) -> httpx.Response:
    """GET again and again until ``arrived`` says so; return that response."""
    deadline = time.monotonic() + PATIENCE
    while not arrived(response := await get(proxy, path, **headers)):
        assert time.monotonic() < deadline, f"{path} stays {response.status_code}: {response.text[:300]}"
        await asyncio.sleep(0.02)
    return response


async def until_status(proxy: Proxy, path: str, status: int, **headers: str) -> httpx.Response:
    """GET until the status is this one."""
    return await until(proxy, path, lambda response: response.status_code == status, **headers)


async def until_body(proxy: Proxy, path: str, body: bytes) -> httpx.Response:
    """GET until the body is this one."""
    return await until(proxy, path, lambda response: response.content == body)


async def until_put(proxy: Proxy, path: str, body: bytes) -> None:
    """PUT until Kafka takes it."""
    deadline = time.monotonic() + PATIENCE
    while (response := await proxy.request("PUT", path, content=body)).status_code != 204:
        assert time.monotonic() < deadline, f"PUT {path} stays {response.status_code}: {response.text}"


def assert_unavailable(response: httpx.Response, code: str) -> None:
    """Check a 503 (the contract, *Errors*): a problem that says when to try again."""
    assert response.status_code == 503, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["type"] == f"urn:kafkaproxy:problem:{code}"
