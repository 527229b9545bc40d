"""A merge of very many records: whole, in order, and no burden on memory or on the store."""

from __future__ import annotations

import asyncio
import json
import re
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from kafkaproxy.worker.types import Role, TopicSettings
from tests.conftest import TopicFactory
from tests.faults.asking import get, items, until, until_body
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster
from tests.support.exchange import until as until_true
from tests.support.proxy import Proxy, configuration

SMALL, LARGE = 10_000, 100_000
MEGABYTE = 1024 * 1024
_PADDING = "x" * 150


def values(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"key": str(number), "value": f'{{"number": {number}, "padding": "{_PADDING}"}}'}


async def merged_to(proxy: Proxy, send: Callable[[bytes], Awaitable[None]]) -> None:
    """GET the merge past any client library, which would collect the body."""

    async def receive() -> dict[str, Any]:
        return await asyncio.Future()

    async def forward(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
        else:
            await send(message["body"])

    scope = {"type": "http", "method": "GET", "scheme": "http", "path": "/items", "raw_path": b"/items", "headers": []}
    await proxy.app({**scope, "query_string": b"", "http_version": "1.1"}, receive, forward)


async def peak_of_merge(proxy: Proxy, body: Path) -> int:
    """Return the most bytes that were allocated at once while the merge went to a file."""
    with body.open("wb") as file:

        async def write(piece: bytes) -> None:
            file.write(piece)

        tracemalloc.start()
        await merged_to(proxy, write)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


async def test_the_memory_of_a_merge_does_not_grow_with_the_topic(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, tmp_path: Path, settings: Any
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "READY_TIMEOUT_SECONDS": 60}
    peaks = {}
    for count in (SMALL, LARGE):
        name = topic(name=f"merge-{count}", partitions=3)
        where = kafka.produce_many(name, values(count))
        expected = sorted(range(count), key=where.__getitem__)
        for policy in ("delete", "compact"):  # every record, and the newest of each key
            tuning = {name: TopicSettings(roles=frozenset({Role.FETCH}), cleanup_policy=policy)}
            proxy = start(configuration(kafka.bootstrap, items(name), topics=tuning), folder=f"{count}-{policy}")
            assert (await get(proxy, "/items/0")).status_code == 200
            body = tmp_path / "body.json"
            peaks[count, policy] = await peak_of_merge(proxy, body)
            assert [record["number"] for record in json.loads(body.read_bytes())] == expected
            assert count == SMALL or body.stat().st_size > 15 * MEGABYTE
            proxy.close()
    for policy in ("delete", "compact"):
        assert peaks[LARGE, policy] < peaks[SMALL, policy] + MEGABYTE / 2, peaks
        assert peaks[LARGE, policy] < 8 * MEGABYTE, peaks


async def test_a_slow_client_holds_no_transaction_and_gets_one_instant(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="merge-slowly")
    kafka.produce_many(name, values(SMALL))
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until(proxy, "/items", lambda response: len(response.json()) == SMALL)
    stalled, go_on = asyncio.Event(), asyncio.Event()
    pieces: list[bytes] = []

    async def read_slowly(piece: bytes) -> None:
        pieces.append(piece)
        stalled.set()
        await go_on.wait()

    client = asyncio.create_task(merged_to(proxy, read_slowly))
    await stalled.wait()
    store = proxy.runtime.worker.cluster("default").store
    await until_true(lambda: not _reading(store.env.readers()))  # ingest has one for an instant now and then
    kafka.produce(name, '"late"', key="late")
    await until_body(proxy, "/items/late", b'"late"')
    go_on.set()
    await client
    assert [record["number"] for record in json.loads(b"".join(pieces))] == list(range(SMALL))


def _reading(readers: str) -> list[str]:
    """Return the lines of LMDB's reader table that are inside a transaction."""
    return [line for line in readers.splitlines() if re.fullmatch(r"\s*\d+\s+\S+\s+\d+\s*", line)]
