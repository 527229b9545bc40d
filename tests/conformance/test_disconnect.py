"""A client that leaves while its topic is read for the first time ends what waits for the topic."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafkaproxy.worker.cluster import ClusterWorker
from tests.conformance.conftest import StartProxy
from tests.conftest import TopicFactory
from tests.support.exchange import Exchange, until
from tests.support.proxy import fetch, stream


@pytest.mark.parametrize("path", ["/one/{topic}", "/all/{topic}", "/stream/{topic}"])
async def test_a_wait_for_the_first_read(
    path: str, start: StartProxy, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[str] = []

    async def ready(_self: ClusterWorker, name: str, *_: Any) -> None:
        waiting.append(name)
        try:
            await asyncio.Event().wait()
        finally:
            waiting.remove(name)

    monkeypatch.setattr(ClusterWorker, "ready", ready)
    proxy = start(
        fetch("GET /one/{topic}", topic="${params.topic}", name="one"),
        fetch("GET /all/{topic}", topic="${params.topic}", merge=True, name="all"),
        stream("/stream/{topic}", topic="${params.topic}"),
    )
    client = Exchange(proxy.app, "GET", path.replace("{topic}", topic()))
    client.send()
    await until(lambda: len(waiting) == 1)
    client.hang_up()
    await client.end()
    assert not waiting
    assert not client.messages
    assert proxy.runtime.streams._slots == 0
