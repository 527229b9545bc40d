"""SIGTERM ends a server while Docker still waits for it, whatever Kafka does, and with Kafka nothing is lost."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.faults.asking import PATIENCE, unique
from tests.kafka import Broker
from tests.support.servers import SERVERS, Site, serve

WRITES: Final = 21
TELLING: Final = ("granian", "uvicorn")
"""Daphne closes its connections at once, and Hypercorn cancels requests before its workers hear of the stop."""
GRACE: Final = 10.0
"""What Docker grants."""


@contextmanager
def serving(server: str, broker: Broker, folder: Path) -> Iterator[tuple[Site, str]]:
    topic, replies = broker.create_topic(unique("stop")), broker.create_topic(unique("replies"))
    env = {
        "INSTANCE_BOOTSTRAP": broker.bootstrap,
        "INSTANCE_TOPIC": topic,
        "INSTANCE_REPLIES": replies,
        "INSTANCE_STORE": str(folder / "store"),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    with serve(server, "tests.faults.stopping:application", folder, env=env) as site:
        yield site, topic


async def until_it_works(client: httpx.AsyncClient) -> None:
    """Wait until records are taken, topics are read and the reply topic is known."""

    async def put() -> bool:
        return (await client.put("/items/a", content=b"before")).status_code == 204

    async def get() -> bool:
        return (await client.get("/items/a")).status_code == 200

    async def ask() -> bool:
        return b"no-reply" in (await client.post("/sync", headers={"prefer": "wait=1"})).content

    async with asyncio.timeout(PATIENCE):
        for works in (put, get, ask):
            while not await works():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)


async def ask(client: httpx.AsyncClient) -> list[asyncio.Task[httpx.Response]]:
    """Begin requests of every kind that waits."""
    asked = [
        *(client.put(f"/items/{number}", content=b"in flight") for number in range(WRITES - 1)),
        client.post("/sync"),
        client.get("/items/none", headers={"prefer": "wait=60"}),
        client.get("/items", headers={"prefer": "wait=60", "if-none-match": "*"}),
    ]
    tasks = [asyncio.ensure_future(each) for each in asked]
    await asyncio.sleep(1)  # they are on their way
    return tasks


async def stop(site: Site) -> None:
    """Send SIGTERM, and wait for the end; fail where Docker would kill."""
    site.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(site.process.wait, GRACE)


async def answers(tasks: list[asyncio.Task[httpx.Response]]) -> list[int]:
    """Return the status of every request; 0 where the server closed the connection instead."""
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [each.status_code if isinstance(each, httpx.Response) else 0 for each in found]


@pytest.mark.parametrize("trouble", [Broker.pause, Broker.kill], ids=["frozen", "gone"])
@pytest.mark.parametrize("server", sorted(SERVERS))
async def test_a_stop_is_over_within_the_grace_of_docker_while_kafka_is_away(
    server: str, trouble: Callable[[Broker], None], broken_kafka: Broker, tmp_path: Path
) -> None:
    with serving(server, broken_kafka, tmp_path) as (site, topic):
        async with httpx.AsyncClient(base_url=site.url, timeout=60, limits=httpx.Limits(max_connections=None)) as client:
            await until_it_works(client)
            trouble(broken_kafka)
            tasks = await ask(client)
            await stop(site)
            statuses = await answers(tasks)
        if server in TELLING:
            assert set(statuses[:WRITES]) <= {503, 504}
            assert statuses[WRITES:] == [404, 304]  # as at the end of their waits
        else:
            assert set(statuses) <= {0, 500}
        told = re.findall(rf"records_not_delivered producer=\S+ topic={topic} unsent=(\d+) unconfirmed=(\d+)", site.log)
        assert [sum(map(int, each)) for each in told] == [WRITES], site.log[-3000:]
        assert "in flight" not in site.log


@pytest.mark.parametrize("server", sorted(SERVERS))
async def test_a_stop_loses_nothing_that_kafka_can_take(server: str, broken_kafka: Broker, tmp_path: Path) -> None:
    with serving(server, broken_kafka, tmp_path) as (site, topic):
        async with httpx.AsyncClient(base_url=site.url, timeout=60, limits=httpx.Limits(max_connections=None)) as client:
            await until_it_works(client)
            broken_kafka.pause()
            tasks = await ask(client)
            stopping = asyncio.create_task(stop(site))
            await asyncio.sleep(0.5)
            broken_kafka.resume()
            await stopping
            statuses = await answers(tasks)
        acknowledged = [number for number, status in enumerate(statuses[:20]) if status == 204]
        if server != "daphne":
            assert len(acknowledged) == 20
        stored = [record.key for record in broken_kafka.consume(topic)]
        assert {str(number) for number in range(20)} <= set(stored)
        assert all(stored.count(str(number)) == 1 for number in acknowledged)
        assert "records_not_delivered" not in site.log
