"""The server is killed in the middle of 1,000 sync requests; their clients try again with the same idempotency keys."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.support.exchange import until
from tests.support.servers import Site, serve
from tests.support.service import Asked, Reply, Service

REQUESTS: Final = 1000
AT_ONCE: Final = 100
ASKED_AT_THE_KILL: Final = 300
Consume = Callable[[str], list[Consumed]]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["store", "a fresh store"])
async def test_every_key_is_answered_and_none_is_produced_again_once_it_has_a_reply(
    store: str, kafka: Cluster, topic: TopicFactory, tmp_path: Path, kcat_consume: Consume
) -> None:
    times = {"message.timestamp.type": "LogAppendTime"}  # one clock for both topics
    requests, replies = topic(3, name="requests", config=times), topic(3, name="replies", config=times)
    keys = [f"key-{number:04d}" for number in range(REQUESTS)]
    dead = threading.Event()
    service = Service(kafka.bootstrap, requests, lambda asked: _echo(service, dead, asked))
    try:
        with _serve(kafka, requests, replies, tmp_path / "store", tmp_path) as site:
            first, _ = await asyncio.gather(_ask_all(site, keys), _kill(site, service, dead))
        assert 0 < len(first) <= ASKED_AT_THE_KILL
        await until(lambda: _is_all_answered(kafka, requests, replies))
        before = _by_id(kcat_consume(requests))
        answered = set(_by_id(kcat_consume(replies)))
        assert set(before) == answered
        assert len(first) < len(answered) < REQUESTS  # some replies were not delivered, some requests were never produced
        with _serve(kafka, requests, replies, tmp_path / store, tmp_path) as site:
            second = await _ask_all(site, keys)
    finally:
        service.close()
    assert first.items() <= second.items()
    assert second == {key: _body(key) for key in keys}
    after, replied = _by_id(kcat_consume(requests)), _by_id(kcat_consume(replies))
    assert Counter(_key(each) for each in after) == Counter(keys)  # one id for each key, however often it was tried
    assert {each: len(after[each]) for each in answered} == {each: len(before[each]) for each in answered}
    for each, records in after.items():
        assert max(record.timestamp for record in records) <= min(record.timestamp for record in replied[each])


def _echo(service: Service, dead: threading.Event, asked: Asked) -> Reply:
    """Answer so many at once, and the others when the server is dead: these replies are not delivered at first."""
    if len(service.asked) > ASKED_AT_THE_KILL:
        assert dead.wait(60)
    return Reply(asked.value)


async def _kill(site: Site, service: Service, dead: threading.Event) -> None:
    await until(lambda: len(service.asked) > ASKED_AT_THE_KILL)
    site.process.kill()
    site.process.wait()
    dead.set()


@contextmanager
def _serve(kafka: Cluster, requests: str, replies: str, store: Path, folder: Path) -> Iterator[Site]:
    env = {
        "INSTANCE_BOOTSTRAP": kafka.bootstrap,
        "INSTANCE_REQUESTS": requests,
        "INSTANCE_REPLIES": replies,
        "INSTANCE_STORE": str(store),
    }
    with serve("uvicorn", "tests.faults.reply_instance:application", folder, env=env) as site:
        yield site


async def _ask_all(site: Site, keys: list[str]) -> Mapping[str, str]:
    """Ask for every key, so many at once, and return what was answered before the server died, if it did.

    Each asks over a connection of its own: looking through a pool of all takes longer than the answers.
    """
    left, answered = iter(keys), dict[str, str]()

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=site.url, timeout=60, verify=False) as client:
            for key in left:
                try:
                    answered[key] = await _ask(client, key)
                except httpx.TransportError:
                    assert site.process.poll() is not None

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return answered


async def _ask(client: httpx.AsyncClient, key: str) -> str:
    response = await client.put(f"/items/{key}", content=_body(key), headers={"idempotency-key": key})
    assert response.status_code == 200, response.text
    return response.text


def _body(key: str) -> str:
    return f"the body of {key}"


def _is_all_answered(kafka: Cluster, requests: str, replies: str) -> bool:
    return len(kafka.consume(requests)) == len(kafka.consume(replies))


def _by_id(records: list[Consumed]) -> dict[str, list[Consumed]]:
    found: dict[str, list[Consumed]] = {}
    for record in records:
        found.setdefault(str(record.header("zilla:correlation-id")), []).append(record)
    return found


def _key(correlation_id: str) -> str:
    return correlation_id.rpartition("-")[0]
