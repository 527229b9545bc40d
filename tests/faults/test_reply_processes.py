"""The processes of a host answer for each other: the one that reads the replies dies, and the other goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.exchange import until
from tests.support.servers import Site, serve
from tests.support.service import Reply, Service, echo


class Host:
    """Servers that share one store, and the service behind them."""

    def __init__(self, kafka: Cluster, topic: TopicFactory, folder: Path) -> None:
        self.kafka = kafka
        self.requests, self.replies = topic(name="requests"), topic(2, name="replies")
        self.folder = folder
        self.service = Service(kafka.bootstrap, self.requests, echo)

    def process(self) -> AbstractContextManager[Site]:
        env = {
            "INSTANCE_BOOTSTRAP": self.kafka.bootstrap,
            "INSTANCE_REQUESTS": self.requests,
            "INSTANCE_REPLIES": self.replies,
            "INSTANCE_STORE": str(self.folder / "store"),
        }
        return serve("uvicorn", "tests.faults.reply_instance:application", self.folder, env=env)


@pytest.fixture
def host(kafka: Cluster, topic: TopicFactory, tmp_path: Path) -> Iterator[Host]:
    made = Host(kafka, topic, tmp_path)
    yield made
    made.service.close()


async def put(site: Site, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=site.url, timeout=60) as client:
        return await client.put(path, content=path, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_a_reply_that_comes_after_the_process_that_reads_was_killed_is_answered_by_another(host: Host) -> None:
    with host.process() as writer:
        assert (await put(writer, "/items/1")).text == "/items/1"  # it reads the replies, as it is the only process
        with host.process() as reader:
            assert (await put(reader, "/items/2")).text == "/items/2"  # found in the store that the other one wrote
            host.service.answer = lambda _asked: None
            waiting = [asyncio.ensure_future(put(reader, "/items/3", **key)) for key in ({}, {"idempotency_key": "key"})]
            await until(lambda: len(host.service.asked) == 4)
            writer.process.kill()
            writer.process.wait()
            for asked in host.service.asked[2:]:
                host.service.reply(asked, Reply(b"after all"))
            assert [(await each).text for each in waiting] == ["after all"] * 2
            assert (await put(reader, "/items/3", idempotency_key="key")).text == "after all"
    assert len(host.service.asked) == 4
