"""Requests that wait, on every server: none is taken for one whose client left, and a client that leaves is noticed."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.kafka import Cluster
from tests.support.servers import SERVERS, Site, serve
from tests.support.service import Service, echo

REQUESTS: Final = 200
SILENT: Final = b"no answer"
ETERNAL: Final = {"prefer": "wait=250"}


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    fields: dict[str, str]
    body: bytes


class Connection:
    """A client with a connection of its own, which it uses once: no server's keep-alive time can end it before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> Answer:
        """Read the answer to its end."""
        head, _, body = (await self.reader.read()).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answer(int(status.split()[1]) if status else 0, fields, body)

    def close(self) -> None:
        """Leave."""
        self.writer.close()


@dataclass(frozen=True)
class Served:
    """A server that runs, and the topics of its site."""

    site: Site
    kafka: Cluster
    items: str
    created: list[str]

    def topic(self) -> str:
        """Create a topic that the site has not heard of."""
        self.created.append(self.kafka.create_topic(f"waiting-{uuid.uuid4().hex}"))
        return self.created[-1]

    async def send(self, method: str, path: str, fields: Mapping[str, str] | None = None, body: bytes = b"") -> Connection:
        """Send a request."""
        host, port = self.site.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        length = {"content-length": str(len(body))} if method == "PUT" else {}
        given = {"host": "localhost", "connection": "close", **length, **(fields or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        return Connection(reader, writer)

    async def ask(self, method: str, path: str, fields: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a request and return its answer."""
        async with asyncio.timeout(60):
            with closing(await self.send(method, path, fields, body)) as connection:
                return await connection.answer()

    async def ask_all(self, path: str, fields: Mapping[str, str], number: int = REQUESTS) -> list[Answer]:
        """GET a path that often at once."""
        return await asyncio.gather(*(self.ask("GET", path, fields) for _ in range(number)))

    async def state(self) -> dict[str, int]:
        """Ask the site what goes on."""
        numbers: dict[str, int] = json.loads((await self.ask("GET", "/state")).body)
        return numbers

    async def until(self, name: str, wanted: int) -> None:
        """Wait until a number of the state is this one."""
        deadline = time.monotonic() + 30
        while (state := await self.state())[name] != wanted:
            assert time.monotonic() < deadline, f"{state}: {name} is not {wanted}"
            await asyncio.sleep(0.05)

    async def accept(self, number: int, body: bytes = b"body") -> str:
        """Send an async request; return where its reply will be."""
        accepted = await self.ask("PUT", f"/async/{number}", {"prefer": "respond-async"}, body)
        assert accepted.status == 202, accepted
        return accepted.fields["location"]


@pytest.fixture(scope="module", params=sorted(SERVERS))
def served(request: pytest.FixtureRequest, kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    names = [f"waiting-{each}-{uuid.uuid4().hex[:8]}" for each in ("items", "requests", "replies")]
    items, requests, replies = [kafka.create_topic(each, 1, {"cleanup.policy": "compact"}) for each in names]
    kafka.produce(items, '"apple"', key="1")
    folder = tmp_path_factory.mktemp("waiting")
    env = {
        "WAITING_BOOTSTRAP": kafka.bootstrap,
        "WAITING_STORE": str(folder / "store"),
        "WAITING_TOPICS": json.dumps({"items": items, "requests": requests, "replies": replies}),
    }
    service = Service(kafka.bootstrap, requests, lambda asked: None if asked.value == SILENT else echo(asked))
    with closing(service), serve(request.param, "tests.support.waiting_site:application", folder, env=env) as site:
        yield Served(site, kafka, items, names)
    kafka.delete_topics(names)


async def fetch_until_the_end_of_the_time(served: Served) -> Sequence[Answer]:
    known = (await served.ask("GET", "/items/1")).fields["etag"]
    return await served.ask_all("/items/1", {"if-none-match": known, "prefer": "wait=1"})


async def fetch_until_a_change(served: Served) -> Sequence[Answer]:
    key = uuid.uuid4().hex
    asked = asyncio.ensure_future(served.ask_all(f"/items/{key}", ETERNAL))
    await served.until("waiting", REQUESTS)
    served.kafka.produce(served.items, '"new"', key=key)
    return await asked


async def merge_until_the_end_of_the_time(served: Served) -> Sequence[Answer]:
    known = (await served.ask("GET", "/items")).fields["etag"]
    return await served.ask_all("/items", {"if-none-match": known, "prefer": "wait=1"})


async def merge_until_a_change(served: Served) -> Sequence[Answer]:
    known = (await served.ask("GET", "/items")).fields["etag"]
    asked = asyncio.ensure_future(served.ask_all("/items", {"if-none-match": known, **ETERNAL}))
    await served.until("waiting", REQUESTS)
    served.kafka.produce(served.items, '"changed"', key=uuid.uuid4().hex)
    return await asked


async def merge_that_need_not_wait(served: Served) -> Sequence[Answer]:
    return await served.ask_all("/items", {"prefer": "wait=1"})


async def sync(served: Served) -> Sequence[Answer]:
    answers = await asyncio.gather(*(served.ask("PUT", f"/sync/{number}", {}, b"body") for number in range(REQUESTS)))
    assert {each.body for each in answers} == {b"body"}
    return answers


async def sync_with_one_key(served: Served) -> Sequence[Answer]:
    key = {"idempotency-key": uuid.uuid4().hex}
    return await asyncio.gather(*(served.ask("PUT", "/sync/1", key, b"body") for _ in range(REQUESTS)))


async def accept_and_poll(served: Served) -> Sequence[Answer]:
    async def exchange(number: int) -> Answer:
        return await served.ask("GET", await served.accept(number), ETERNAL)

    return await asyncio.gather(*map(exchange, range(REQUESTS)))


async def poll_until_the_end_of_the_time(served: Served) -> Sequence[Answer]:
    return await served.ask_all(await served.accept(1, SILENT), {"prefer": "wait=1"})


async def first_read(served: Served) -> Sequence[Answer]:
    answers: list[Answer] = []
    for _ in range(2):
        name = served.topic()
        served.kafka.produce(name, "a record")
        answers += await served.ask_all(f"/any/{name}", {}, REQUESTS // 2)
    return answers


async def first_read_and_a_wait(served: Served) -> Sequence[Answer]:
    answers: list[Answer] = []
    for _ in range(2):
        answers += await served.ask_all(f"/any/{served.topic()}", {"prefer": "wait=1"}, REQUESTS // 2)
    return answers


async def stream(served: Served) -> Sequence[Answer]:
    """The topics are read for the first time, then are known; every stream is read while all are open."""
    answers: list[Answer] = []
    for _ in range(2):
        name = served.topic()
        served.kafka.produce(name, "a record")
        for _ in range(2):
            all_open = asyncio.Barrier(REQUESTS // 4)
            answers += await asyncio.gather(*(_first_event(served, name, all_open) for _ in range(REQUESTS // 4)))
    return answers


async def _first_event(served: Served, topic: str, all_open: asyncio.Barrier) -> Answer:
    async with asyncio.timeout(60):
        with closing(await served.send("GET", f"/stream/{topic}")) as connection:
            head = await connection.reader.readuntil(b"\r\n\r\n")
            await connection.reader.readuntil(b"data:a record\n")
            await all_open.wait()
            return Answer(int(head.split()[1]), {}, b"")


Begin = Callable[[Served], Coroutine[Any, Any, Connection]]
Kind = Callable[[Served], Coroutine[Any, Any, Sequence[Answer]]]
KINDS: Final[dict[Kind, int]] = {
    fetch_until_the_end_of_the_time: 304,
    fetch_until_a_change: 200,
    merge_until_the_end_of_the_time: 304,
    merge_until_a_change: 200,
    merge_that_need_not_wait: 200,
    sync: 200,
    sync_with_one_key: 200,
    accept_and_poll: 200,
    poll_until_the_end_of_the_time: 202,
    first_read: 200,
    first_read_and_a_wait: 404,
    stream: 200,
}
"""What waits → the status of all its answers."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda each: each.__name__)
async def test_a_client_that_waits_is_not_taken_for_gone(kind: Kind, served: Served) -> None:
    before = await served.state()
    answers = await kind(served)
    assert Counter(each.status for each in answers) == {KINDS[kind]: REQUESTS}
    await served.until("users", 0)
    await served.until("places", 0)
    assert (await served.state())["gone"] == before["gone"]
    assert_no_traceback(served)


def assert_no_traceback(served: Served) -> None:
    assert "kafkaproxy/" not in served.site.log
    assert "never retrieved" not in served.site.log


async def fetch_wait(served: Served) -> Connection:
    return await served.send("GET", f"/items/{uuid.uuid4().hex}", ETERNAL)


async def merge_wait(served: Served) -> Connection:
    known = (await served.ask("GET", "/items")).fields["etag"]
    return await served.send("GET", "/items", {"if-none-match": known, **ETERNAL})


async def sync_wait(served: Served) -> Connection:
    return await served.send("PUT", "/sync/1", {}, SILENT)


async def poll_wait(served: Served) -> Connection:
    return await served.send("GET", await served.accept(1, SILENT), ETERNAL)


@pytest.mark.parametrize("begin", [fetch_wait, merge_wait, sync_wait, poll_wait])
async def test_a_client_that_leaves_is_noticed(begin: Begin, served: Served) -> None:
    gone = (await served.state())["gone"]
    clients = [await begin(served) for _ in range(15)]
    await served.until("waiting", 15)
    for client in clients[:10]:
        client.close()
    await served.until("waiting", 5)
    for client in clients[10:]:
        client.close()
    await served.until("waiting", 0)
    await served.until("users", 0)
    await served.until("gone", gone + 15)
    assert_no_traceback(served)
