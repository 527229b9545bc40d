"""Streams as a browser's own ``EventSource`` reads them, reconnecting by itself, to another instance too."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from kafkaproxy.core import progress
from tests.browser.conftest import OpenPage
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.servers import Site, serve

pytestmark = [pytest.mark.browser, pytest.mark.kafka]

# Every event, whatever its type, with what a page sees of it.
_LISTEN = """
([url, options]) => {
  window.seen = [];
  window.opened = 0;
  window.errors = [];
  window.source = new EventSource(url, options);
  source.onopen = () => { opened += 1; };
  source.onerror = () => { errors.push(source.readyState); };
  for (const type of ["message", "delete", "binary", "gap"])
    source.addEventListener(type, ({ type, data, lastEventId, origin }) => seen.push({ type, data, id: lastEventId, origin }));
}
"""


@contextmanager
def _instances(kafka: Cluster, folder: Path, count: int) -> Iterator[list[Site]]:
    """Servers with a store each: nothing is shared, as if on different hosts."""
    with ExitStack() as stack:
        sites = []
        for number in range(count):
            own = folder / str(number)
            own.mkdir()
            env = {
                "STREAM_BOOTSTRAP": kafka.bootstrap,
                "STREAM_STORE": str(own / "store"),
                "STREAM_SETTINGS": json.dumps({"HEARTBEAT_SECONDS": 0.5, "DRAIN_SECONDS": 1, "DRAIN_RETRY_MS": 300}),
                "DJANGO_SETTINGS_MODULE": "tests.settings",
            }
            sites.append(stack.enter_context(serve("uvicorn", "tests.support.stream_site:application", own, env=env)))
        yield sites


@pytest.fixture(scope="module")
def pair(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Site]]:
    with _instances(kafka, tmp_path_factory.mktemp("pair"), 2) as sites:
        yield sites


class Forwarder:
    """A load balancer in miniature: forwards connections to one of the instances, until it is pointed at another."""

    def __init__(self) -> None:
        self.url = ""
        self.accepted = 0
        self._port = 0
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def point(self, site: Site) -> None:
        """Forward new connections there."""
        self._port = int(site.url.rpartition(":")[2])

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._connections:
            writer.transport.abort()

    async def stop(self) -> None:
        """Stop."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, inner_writer}
        self._connections |= both
        try:
            await asyncio.gather(self._pipe(reader, inner_writer), self._pipe(inner_reader, writer))
        finally:
            self._connections -= both

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.transport.abort() if writer.transport.is_closing() else writer.close()


@pytest.fixture
async def forwarder(pair: list[Site]) -> AsyncIterator[Forwarder]:
    balancer = Forwarder()
    balancer.point(pair[0])
    await balancer.start()
    yield balancer
    await balancer.stop()


async def listen(page: Page, url: str, **options: Any) -> None:
    await page.evaluate(_LISTEN, [url, options])
    await page.wait_for_function("opened > 0")


async def seen(page: Page, count: int) -> list[dict[str, Any]]:
    """Return what came, as soon as there are so many, and nothing more comes."""
    await page.wait_for_function("count => seen.length >= count", arg=count, timeout=60_000)
    events: list[dict[str, Any]] = await page.evaluate("seen")
    return events


async def test_every_kind_of_event(pair: list[Site], open_page: OpenPage, kafka: Cluster, topic: TopicFactory) -> None:
    name = topic()
    page = await open_page(f"{pair[0].url}/count")
    await listen(page, f"/any/{name}")
    kafka.produce(name, '{"a": 1}', key="k", headers=[("etag", "1")])
    kafka.produce(name, "one\ntwo\r\nthree\rfour\n", key="k")
    kafka.produce(name, " \ufeffindented\0 é😀")
    kafka.produce(name, "")
    kafka.produce(name, b"\xff\xfe\r\n\r\nevent:evil\n\n", key="k")
    kafka.produce(name, None, key="ключ")
    kafka.produce(name, "x" * 900_000)
    events = await seen(page, 7)
    assert [(event["type"], event["data"]) for event in events] == [
        ("message", '{"a": 1}'),
        ("message", "one\ntwo\nthree\nfour\n"),
        ("message", " \ufeffindented\0 é😀"),
        ("message", ""),
        ("binary", base64.b64encode(b"\xff\xfe\r\n\r\nevent:evil\n\n").decode()),
        ("delete", base64.urlsafe_b64encode("ключ".encode()).decode()),
        ("message", "x" * 900_000),
    ]
    ids = [event["id"] for event in events]
    assert ids == [progress.encode({0: 1}) + "/1", *(progress.encode({0: offset}) for offset in range(2, 8))]
    assert {event["origin"] for event in events} == {pair[0].url}
    assert await page.evaluate("errors") == []


async def test_a_gap_is_an_event(pair: list[Site], open_page: OpenPage, kafka: Cluster, topic: TopicFactory) -> None:
    name = topic()
    kafka.produce(name, "after")
    page = await open_page(f"{pair[0].url}/count")
    await listen(page, f"/any/{name}?lastEventId={progress.encode({0: 5})}")
    gap, after = await seen(page, 2)
    assert (gap["type"], json.loads(gap["data"])) == ("gap", {"lost": [{"partition": 0, "from": 5, "to": 0}]})
    assert after["data"] == "after"


async def test_it_reconnects_to_another_instance_and_misses_nothing(
    pair: list[Site], forwarder: Forwarder, open_page: OpenPage, kafka: Cluster, topic: TopicFactory
) -> None:
    name = topic(partitions=3)
    page = await open_page(f"{forwarder.url}/count", broken=True)
    await listen(page, f"/any/{name}")
    produced = 0
    for turn in range(4):
        for _ in range(50):
            kafka.produce(name, str(produced), partition=produced % 3)
            produced += 1
        if turn % 2:
            await seen(page, produced)
        forwarder.point(pair[(turn + 1) % 2])
        forwarder.cut()  # in the middle of events, every other time
        kafka.produce(name, str(produced), partition=produced % 3)
        produced += 1
        await page.wait_for_function("count => opened >= count", arg=turn + 2, timeout=30_000)
    events = await seen(page, produced)
    assert sorted(int(event["data"]) for event in events) == list(range(produced))
    for partition in range(3):
        mine = [int(event["data"]) for event in events if int(event["data"]) % 3 == partition]
        assert mine == list(range(partition, produced, 3))
    assert set(await page.evaluate("errors")) == {0}  # CONNECTING each time: never given up


async def test_it_moves_on_when_its_server_stops(
    forwarder: Forwarder, open_page: OpenPage, kafka: Cluster, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic()
    with _instances(kafka, tmp_path, 2) as (first, second):
        forwarder.point(first)
        page = await open_page(f"{forwarder.url}/count", broken=True)
        await listen(page, f"/any/{name}")
        kafka.produce(name, "before")
        await seen(page, 1)
        forwarder.point(second)
        first.process.send_signal(signal.SIGTERM)
        kafka.produce(name, "while it stops")
        await page.wait_for_function("opened > 1", timeout=30_000)
        kafka.produce(name, "after")
        assert [event["data"] for event in await seen(page, 3)] == ["before", "while it stops", "after"]
        assert await asyncio.to_thread(first.process.wait, 20) is not None


async def test_it_reconnects_across_origins_with_a_long_id(
    pair: list[Site], forwarder: Forwarder, open_page: OpenPage, kafka: Cluster, topic: TopicFactory
) -> None:
    """Fetch standard: a ``last-event-id`` of more than 128 bytes is asked for in a preflight first."""
    name = topic()
    page = await open_page(f"{pair[0].url}/count", broken=True)
    await listen(page, f"{forwarder.url}/any/{name}")
    long = "x" * 300
    kafka.produce(name, "first", headers=[("etag", long)])
    (first,) = await seen(page, 1)
    assert first["id"] == progress.encode({0: 1}) + "/" + long
    forwarder.point(pair[1])
    forwarder.cut()
    kafka.produce(name, "second")
    await page.wait_for_function("opened > 1", timeout=30_000)
    assert [event["data"] for event in await seen(page, 2)] == ["first", "second"]
    assert {event["origin"] for event in await seen(page, 2)} == {forwarder.url}


async def test_closing_it_closes_the_stream(pair: list[Site], open_page: OpenPage, topic: TopicFactory) -> None:
    name = topic()
    page = await open_page(f"{pair[1].url}/count")
    await listen(page, f"/any/{name}")
    count = "fetch('/count').then(response => response.text())"
    assert await page.evaluate(count) == "1"
    await page.evaluate("source.close()")
    await page.wait_for_function(f"async () => await {count} === '0'")
