"""Request-response through each server: a whole exchange, a chunked upload, and a client that hangs up."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conformance.conftest import StartService
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.servers import SERVERS, Site, serve
from tests.support.service import Asked, Reply, echo

SILENT = b"no answer"


@pytest.fixture(params=sorted(SERVERS))
def site(
    request: pytest.FixtureRequest, kafka: Cluster, topic: TopicFactory, service: StartService, tmp_path: Path
) -> Iterator[Site]:
    requests, replies = topic(name="requests"), topic(name="replies")
    service(requests, _answer)
    env = {
        "INSTANCE_BOOTSTRAP": kafka.bootstrap,
        "INSTANCE_REQUESTS": requests,
        "INSTANCE_REPLIES": replies,
        "INSTANCE_STORE": str(tmp_path / "store"),
    }
    with serve(request.param, "tests.faults.reply_instance:application", tmp_path, env=env) as running:
        yield running


def _answer(asked: Asked) -> Reply | None:
    return None if asked.value == SILENT else echo(asked)


def test_an_exchange_a_chunked_upload_and_a_client_that_hangs_up(site: Site) -> None:
    whole = httpx.put(f"{site.url}/items/1", content=b"whole", headers={"idempotency-key": "k"}, timeout=60)
    assert (whole.status_code, whole.content) == (200, b"whole")
    chunked = httpx.put(f"{site.url}/items/1", content=(b"%05d" % number for number in range(1000)), timeout=60)
    assert chunked.content == b"".join(b"%05d" % number for number in range(1000))
    host, port = site.url.removeprefix("http://").split(":")
    clients = [socket.create_connection((host, int(port))) for _ in range(20)]
    for client in clients:
        client.sendall(b"PUT /items/1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(SILENT), SILENT))
    _until_waiting(site, 20)
    for client in clients[:15]:
        client.close()
    _until_waiting(site, 5)
    for client in clients:
        client.close()
    _until_waiting(site, 0)


def _until_waiting(site: Site, number: int) -> None:
    deadline = time.monotonic() + 20
    while (waiting := httpx.get(site.url).text) != str(number):
        assert time.monotonic() < deadline, f"{waiting} wait, not {number}"
        time.sleep(0.05)
