"""Streams on every server, over HTTP/1.1 and HTTP/2: they flow, disconnects are noticed, and SIGTERM drains them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx
import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes

from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.kafka.certificates import Certificates, make_certificates
from tests.support.servers import SERVERS, Site, free_port, serve
from tests.support.streams import EventParser, EventStream, SocketStream

STREAMS: Final = 12
HTTP2: Final[dict[str, Callable[[int, str], list[str]]]] = {
    "daphne": lambda port, pem: ["-e", f"ssl:{port}:interface=127.0.0.1:privateKey={pem}:certKey={pem}"],
    "granian": lambda _port, pem: ["--ssl-certificate", pem, "--ssl-keyfile", pem, "--http", "2"],
    "hypercorn": lambda _port, pem: ["--certfile", pem, "--keyfile", pem],
}


@dataclass(frozen=True)
class Served:
    """A server that runs, and how to speak with it."""

    site: Site
    url: str
    verify: ssl.SSLContext | bool
    is_http2: bool

    def client(self) -> httpx.AsyncClient:
        """Return a client; each is a connection of its own, or several in HTTP/1.1."""
        timeout = httpx.Timeout(30, pool=None)
        return httpx.AsyncClient(
            base_url=self.url, http1=not self.is_http2, http2=self.is_http2, verify=self.verify, timeout=timeout
        )

    async def count(self, path: str = "/count") -> int:
        """Ask how many streams are open."""
        async with self.client() as client:
            return int((await client.get(path)).text)

    async def until_count(self, wanted: int, path: str = "/count") -> None:
        """Wait until so many are open."""
        deadline = time.monotonic() + 30
        while (count := await self.count(path)) != wanted:
            assert time.monotonic() < deadline, f"{count} streams are open"
            await asyncio.sleep(0.1)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def running(
    server: str,
    protocol: str,
    folder: Path,
    kafka: Cluster,
    certificates: Certificates,
    *,
    application: str = "tests.support.stream_site:application",
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    **settings: Any,
) -> Iterator[Served]:
    environment = {
        "STREAM_BOOTSTRAP": kafka.bootstrap,
        "STREAM_STORE": str(folder / "store"),
        "STREAM_SETTINGS": json.dumps({"DRAIN_SECONDS": 3, "HEARTBEAT_SECONDS": 1, **settings}),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        **(env or {}),
    }
    is_http2 = protocol == "http2"
    tls_port = free_port()
    tls = HTTP2[server](tls_port, str(certificates.server)) if is_http2 else []
    with serve(server, application, folder, env=environment, options=[*options, *tls]) as site:
        if not is_http2:
            yield Served(site, site.url, True, is_http2=False)
            return
        url = f"https://127.0.0.1:{tls_port}" if server == "daphne" else site.url.replace("http:", "https:")
        yield Served(site, url, ssl.create_default_context(cafile=certificates.ca), is_http2=True)


_ALL: Final = [(server, "http1") for server in sorted(SERVERS)] + [(server, "http2") for server in sorted(HTTP2)]


@pytest.fixture(scope="module", params=_ALL, ids="-".join)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kafka: Cluster, certificates: Certificates
) -> Iterator[Served]:
    server, protocol = request.param
    with running(server, protocol, tmp_path_factory.mktemp("served"), kafka, certificates) as one:
        yield one


@contextlib.asynccontextmanager
async def opened(client: httpx.AsyncClient, path: str, last: str | None = None) -> AsyncIterator[EventStream]:
    headers = {"accept": "text/event-stream", **({} if last is None else {"last-event-id": last})}
    async with client.stream("GET", path, headers=headers) as response:
        body = response.aiter_raw()

        async def read() -> bytes:
            return await anext(body, b"")

        assert response.http_version == ("HTTP/2" if client_is_http2(client) else "HTTP/1.1")
        yield EventStream(response.status_code, response.headers, read)


def client_is_http2(client: httpx.AsyncClient) -> bool:
    return client._transport._pool._http2  # type: ignore[attr-defined,no-any-return]


async def test_streams_flow_and_resume(served: Served, kafka: Cluster, topic: TopicFactory) -> None:
    name = topic(partitions=2)
    kafka.produce(name, "stored")
    async with served.client() as client, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(opened(client, f"/any/{name}")) for _ in range(STREAMS)]
        for s in streams:
            assert s.status == 200
            assert s.headers["content-type"] == "text/event-stream"
            assert s.headers["cache-control"] == "no-store"
            assert s.headers["x-accel-buffering"] == "no"
            assert (await s.next()).data == "stored"
        big = "x" * 1_000_000
        kafka.produce_many(name, [{"value": "live\nof two lines"}, {"value": big}, {"key": "k", "value": None}], partition=0)
        for s in streams:
            assert [(each.type, each.data) for each in await s.take(3)] == [
                ("message", "live\nof two lines"),
                ("message", big),
                ("delete", "aw=="),
            ]
        assert await served.count() == STREAMS
        last = streams[0].last_event_id
    await served.until_count(0)
    kafka.produce(name, "later")
    async with served.client() as client, opened(client, f"/any/{name}", last) as s:
        assert (await s.next()).data == "later"
        while s.parser.comments < 3:  # heartbeats come through
            await s.more()


async def test_disconnects_are_noticed(served: Served, topic: TopicFactory) -> None:
    name = topic()
    async with contextlib.AsyncExitStack() as stack:
        if served.is_http2:  # several streams of a connection
            clients = [await stack.enter_async_context(served.client()) for _ in range(2)]
        else:
            clients = [await stack.enter_async_context(served.client()) for _ in range(STREAMS)]
        streams = [await stack.enter_async_context(opened(clients[n % len(clients)], f"/any/{name}")) for n in range(STREAMS)]
        for s in streams:
            await s.more()
        await served.until_count(STREAMS)
    await served.until_count(0)


async def test_a_client_that_vanishes_in_the_middle_of_an_event_is_noticed(
    served: Served, kafka: Cluster, topic: TopicFactory
) -> None:
    name = topic()
    connection: Any
    if served.is_http2:
        connection = await Http2.connect(served)
        await connection.get(f"/any/{name}")
    else:
        connection = await SocketStream.connect(served.url)
        await (await connection.get(f"/any/{name}")).more()
    await served.until_count(1)
    kafka.produce_many(name, [{"value": "x" * 900_000} for _ in range(8)])
    await asyncio.sleep(0.2)
    connection.close()
    await served.until_count(0)


@pytest.mark.parametrize("served", [each for each in _ALL if each[1] == "http2"], ids="-".join, indirect=True)
async def test_a_stream_that_is_reset_is_noticed(served: Served, topic: TopicFactory) -> None:
    name = topic()
    connection = await Http2.connect(served)
    first, second = [await connection.get(f"/any/{name}") for _ in range(2)]
    await served.until_count(2)
    connection.reset(first)
    await served.until_count(1)
    connection.reset(second)
    await served.until_count(0)
    connection.close()


@pytest.mark.parametrize(("server", "protocol"), _ALL, ids=["-".join(each) for each in _ALL])
async def test_sigterm_drains(
    server: str, protocol: str, kafka: Cluster, topic: TopicFactory, certificates: Certificates, tmp_path: Path
) -> None:
    """Seen by curl: it reads what comes after an HTTP/2 GOAWAY, as browsers do, and tells a clean end from a broken one."""
    name = topic()
    kafka.produce(name, "before")
    with running(server, protocol, tmp_path, kafka, certificates) as served:
        streams = [await curl(f"{served.url}/any/{name}", protocol, certificates) for _ in range(5)]
        for each in streams:
            assert each.stdout is not None
            await each.stdout.readuntil(b"data:before\n\n")
        await served.until_count(5)
        served.site.process.send_signal(signal.SIGTERM)
        for each in streams:
            rest, complaints = await asyncio.wait_for(each.communicate(), 20)
            if (server, protocol) != ("hypercorn", "http2"):  # it drops its HTTP/2 connections without notice
                assert parse_retry(rest) is not None, (rest, complaints, served.site.log[-3000:])
                assert each.returncode == 0, complaints
        assert await asyncio.to_thread(served.site.process.wait, 20) is not None
    assert "kafkaproxy/" not in served.site.log  # in no traceback


async def test_sigterm_drains_a_stream_that_is_being_opened(
    kafka: Cluster, topic: TopicFactory, certificates: Certificates, tmp_path: Path
) -> None:
    """Also where it is the first one, and the server would wait for it for ever."""
    name = topic()
    unlimited = ["--timeout-graceful-shutdown", "3600"]
    slow = {"STREAM_OPENING_SECONDS": "1"}
    with running("uvicorn", "http1", tmp_path, kafka, certificates, env=slow, options=unlimited) as served:
        client = await curl(f"{served.url}/any/{name}", "http1", certificates)
        await served.until_count(1, "/places")
        assert await served.count() == 0
        served.site.process.send_signal(signal.SIGTERM)
        body, complaints = await asyncio.wait_for(client.communicate(), 20)
        assert parse_retry(body) is not None, (body, complaints, served.site.log[-3000:])
        assert client.returncode == 0, complaints
        assert await asyncio.to_thread(served.site.process.wait, 20) is not None


async def curl(url: str, protocol: str, certificates: Certificates) -> asyncio.subprocess.Process:
    version = "--http2" if protocol == "http2" else "--http1.1"
    options = ["--no-buffer", "--silent", "--show-error", version, "--cacert", str(certificates.ca)]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec("curl", *options, url, stdout=pipe, stderr=pipe)


def parse_retry(body: bytes) -> int | None:
    parser = EventParser()
    assert parser.feed(body) == []
    return parser.retry


class Http2:
    """An HTTP/2 connection that can reset a stream, and be dropped; what it receives is of no interest."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._connection = H2Connection()
        self._connection.initiate_connection()
        self._flush()
        self._reading = asyncio.ensure_future(self._read(reader))

    @classmethod
    async def connect(cls, served: Served) -> Self:
        """Connect, with TLS and ALPN."""
        assert isinstance(served.verify, ssl.SSLContext)
        served.verify.set_alpn_protocols(["h2"])
        port = int(served.url.rpartition(":")[2])
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=served.verify))

    async def get(self, path: str) -> int:
        """Send a GET and return its stream."""
        stream = int(self._connection.get_next_available_stream_id())
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "127.0.0.1"), (":path", path)]
        self._connection.send_headers(stream, fields, end_stream=True)
        self._flush()
        return stream

    def reset(self, stream: int) -> None:
        """Reset a stream, as a browser does when its page closes an ``EventSource``."""
        self._connection.reset_stream(stream, ErrorCodes.CANCEL)
        self._flush()

    def close(self) -> None:
        """Drop the connection."""
        self._reading.cancel()
        self._writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 16):
            self._connection.receive_data(
                data
            )  # answers settings and pings; opens no window, so the server cannot send for ever
            self._flush()

    def _flush(self) -> None:
        self._writer.write(self._connection.data_to_send())


@pytest.mark.parametrize("server", ["granian", "hypercorn", "uvicorn"])  # daphne takes everything: it has no back-pressure
async def test_a_client_that_does_not_read_is_closed(
    server: str, kafka: Cluster, topic: TopicFactory, certificates: Certificates, tmp_path: Path
) -> None:
    name = topic()
    with running(server, "http1", tmp_path, kafka, certificates, STREAM_SEND_TIMEOUT_SECONDS=1) as served:
        socket = await SocketStream.connect(served.url, limit=1 << 12)
        s = await socket.get(f"/any/{name}")
        await s.more()
        assert await served.count() == 1
        kafka.produce_many(name, [{"value": "x" * 500_000} for _ in range(40)])
        await served.until_count(0)
        socket.close()
