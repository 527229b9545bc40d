"""Streams on real Kafka: rows of the reference's tables for sse and sse-kafka that test_stream.py has no room for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TopicFactory
from tests.exchange import until
from tests.kafka import Cluster
from tests.proxy import Proxy, configuration, gateway, stream
from tests.streams import asgi_stream


@pytest.fixture
def records(topic: TopicFactory) -> str:
    return topic(name="stream", partitions=2)


@pytest.fixture
def proxy(kafka: Cluster, records: str, tmp_path: Path) -> Iterator[Proxy]:
    routes = [stream("/test", topic=records), stream("/keyed", topic=records, event_id_key=True, name="keyed")]
    running = Proxy(tmp_path, configuration(kafka.bootstrap, gateway(*routes)))
    yield running
    running.close()


async def test_client_sent_reset_by_a_server_that_raises_leaves_nothing_behind(proxy: Proxy) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    async def raising(scope: Any, receive: Callable[..., Any], send: Any) -> None:
        async def receive_or_raise() -> Any:
            if (message := await receive())["type"] == "http.disconnect":
                raise ConnectionResetError("the client is gone")
            return message

        await proxy.app(scope, receive_or_raise, send)

    async with asgi_stream(raising, "/test") as s:
        await s.more()
        assert len(proxy.runtime.streams) == 1
    await until(lambda: len(proxy.runtime.streams) == 0)
    gc.collect()
    assert complaints == []  # such as that an exception was never retrieved
