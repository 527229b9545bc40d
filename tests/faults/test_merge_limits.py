"""Merges are bounded in number, and leave nothing behind: neither files nor work for clients that left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest

from kafkaproxy.consumers import merge_file
from kafkaproxy.core.jsontext import is_json
from kafkaproxy.metrics import MERGE_SKIPPED
from tests.conftest import TopicFactory
from tests.faults.asking import PATIENCE, assert_unavailable, get, items, until
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration

COUNT = 3000


class Reader:
    """A client of the merge that reads nothing until it is let, and may leave."""

    def __init__(self, proxy: Proxy) -> None:
        self.status = 0
        self.body = b""
        self.started = asyncio.Event()
        self.reads = asyncio.Event()
        self._left = asyncio.Event()
        scope = {"type": "http", "method": "GET", "scheme": "http", "path": "/items", "raw_path": b"/items", "headers": []}
        scope |= {"query_string": b"", "http_version": "1.1"}
        self.served = asyncio.ensure_future(proxy.app(scope, self._receive, self._send))

    def leave(self) -> None:
        """Disconnect."""
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.started.set()
        else:
            await self.reads.wait()
            self.body += message["body"]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[IO[bytes]]:
    """The temporary files of merges, in the order in which they were made."""
    made: list[IO[bytes]] = []
    real = tempfile.SpooledTemporaryFile

    def make(*args: Any) -> IO[bytes]:
        made.append(real(*args))
        return made[-1]

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", make)
    return made


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds the threads that write merges at their 1000th record until it is set."""
    go_on = threading.Event()
    seen: dict[int, int] = {}

    def slowly(value: bytes) -> bool:
        thread = threading.get_ident()
        seen[thread] = seen.get(thread, 0) + 1
        if seen[thread] == 1000:
            go_on.wait(PATIENCE)
        return is_json(value)

    monkeypatch.setattr(merge_file, "is_json", slowly)
    yield go_on
    go_on.set()


@pytest.fixture
async def proxy(kafka: Cluster, topic: TopicFactory, start: StartProxy, settings: Any) -> Proxy:
    """A proxy that allows two merges at once, with a topic to merge."""
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "MAX_MERGES": 2, "READY_TIMEOUT_SECONDS": 1}
    name = topic(name="merged")
    kafka.produce_many(name, [{"key": str(number), "value": str(number)} for number in range(COUNT)])
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until(proxy, "/items", lambda response: response.status_code == 200 and len(response.json()) == COUNT)
    return proxy


async def until_true(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is looked at says nothing by itself
            await asyncio.sleep(0.01)


async def test_more_merges_than_may_be_at_once_wait_and_then_are_503(proxy: Proxy, files: list[IO[bytes]]) -> None:
    first, second = Reader(proxy), Reader(proxy)
    await asyncio.gather(first.started.wait(), second.started.wait())
    assert_unavailable(await get(proxy, "/items"), "too-many-merges")
    assert (await get(proxy, "/items/7")).content == b"7"
    third = asyncio.ensure_future(get(proxy, "/items"))
    await until_true(lambda: proxy.runtime.worker.waiting == 1)
    first.reads.set()
    assert (await third).json() == list(range(COUNT))
    second.reads.set()
    await asyncio.gather(first.served, second.served)
    assert json.loads(second.body) == list(range(COUNT))
    assert len(files) == 3
    assert all(file.closed for file in files)


async def test_the_requests_that_wait_for_their_turn_are_bounded_too(proxy: Proxy, settings: Any) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "MAX_WAITING_REQUESTS": 0}
    readers = [Reader(proxy), Reader(proxy)]
    await asyncio.gather(*(each.started.wait() for each in readers))
    assert_unavailable(await get(proxy, "/items"), "too-many-waiting")
    for each in readers:
        each.leave()
    await asyncio.gather(*(each.served for each in readers))
    assert (await get(proxy, "/items")).status_code == 200


async def test_a_client_that_leaves_while_it_is_sent_to_leaves_no_file(proxy: Proxy, files: list[IO[bytes]]) -> None:
    client = Reader(proxy)
    await client.started.wait()
    assert [file.closed for file in files] == [False]
    client.leave()
    await client.served
    assert [file.closed for file in files] == [True]


async def test_a_client_that_leaves_while_the_merge_is_made_stops_it(
    proxy: Proxy, files: list[IO[bytes]], held: threading.Event
) -> None:
    client = Reader(proxy)
    await until_true(lambda: len(files) == 1)
    client.leave()
    await client.served
    written = files[0].tell()
    held.set()
    await until_true(lambda: files[0].closed)
    assert client.status == 0
    assert written < 6000  # 1000 numbers of at most four digits and a comma, not all of them


async def test_clients_that_leave_before_their_turn_make_no_file(
    proxy: Proxy, files: list[IO[bytes]], held: threading.Event
) -> None:
    clients = [Reader(proxy) for _ in range(5)]
    await until_true(lambda: len(files) == 2)
    for client in clients:
        client.leave()
    await asyncio.gather(*(client.served for client in clients))
    held.set()
    await until_true(lambda: all(file.closed for file in files))
    assert (await get(proxy, "/items")).json() == list(range(COUNT))
    assert len(files) == 3


async def test_a_wait_for_a_change_holds_no_file_and_no_place(proxy: Proxy, files: list[IO[bytes]]) -> None:
    etag = (await get(proxy, "/items")).headers["etag"]
    waits = [asyncio.ensure_future(get(proxy, "/items", if_none_match=etag, prefer="wait=60")) for _ in range(6)]
    await until_true(lambda: len(files) >= 13 and all(file.closed for file in files))  # two each: before and once it follows
    assert (await get(proxy, "/items")).status_code == 200
    assert (await proxy.request("PUT", "/items/new", content=b'"new"')).status_code == 204
    for response in await asyncio.gather(*waits):
        assert response.json() == [*range(COUNT), "new"]
    assert all(file.closed for file in files)


async def test_a_client_that_does_not_read_is_cut_off(proxy: Proxy, files: list[IO[bytes]], settings: Any) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "STREAM_SEND_TIMEOUT_SECONDS": 0.2}
    client = Reader(proxy)
    with contextlib.suppress(Exception):  # the server's part: to cut the connection
        await client.served
    assert client.status == 200
    assert client.body == b""
    assert [file.closed for file in files] == [True]


async def test_a_full_disk_is_503_and_says_so(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> IO[bytes]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", full)
    assert_unavailable(await get(proxy, "/items"), "merge-failed")
    assert "merge_failed topic=merged" in caplog.text


async def test_what_is_no_json_is_told_once_for_a_merge(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    name = topic(name="odd")
    values = [str(number) if number % 2 else "no JSON" for number in range(100)]
    kafka.produce_many(name, [{"key": str(number), "value": value} for number, value in enumerate(values)])
    proxy = start(configuration(kafka.bootstrap, items(name)))
    caplog.set_level(logging.INFO, "kafkaproxy.fetch")
    skipped = MERGE_SKIPPED.cell("gateway", "all")
    before = skipped.value
    response = await until(proxy, "/items", lambda response: response.status_code == 200)
    assert response.json() == list(range(1, 100, 2))
    assert [each.message for each in caplog.records if each.name == "kafkaproxy.fetch"] == [
        f"merge_skipped topic={name} records=50 reason=not_json"
    ]
    assert skipped.value - before == 50
