"""The server is killed in the middle of 1,000 sync requests; their clients try again with the same idempotency keys."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.conftest import TopicFactory
from tests.exchange import until
from tests.kafka import Cluster, Consumed
from tests.servers import Site, serve
from tests.service import Asked, Reply, Service

REQUESTS: Final = 1000
AT_ONCE: Final = 100
ANSWERED_AT_THE_KILL: Final = 300
Consume = Callable[[str], list[Consumed]]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["store", "a fresh store"])
async def test_every_key_is_answered_and_none_is_produced_again_once_it_has_a_reply(
    store: str, kafka: Cluster, topic: TopicFactory, tmp_path: Path, kcat_consume: Consume
) -> None:
    times = {"message.timestamp.type": "LogAppendTime"}  # one clock for both topics
    requests, replies = topic(3, name="requests", config=times), topic(3, name="replies", config=times)
    keys = [f"key-{number:04d}" for number in range(REQUESTS)]
    service = Service(kafka.bootstrap, requests, _slow_echo)
    try:
        with _serve(kafka, requests, replies, tmp_path / "store", tmp_path) as site:
            first = await _ask_until_killed(site, keys)
        assert ANSWERED_AT_THE_KILL <= len(first) < REQUESTS
        await until(lambda: _is_all_answered(kafka, requests, replies))
        before = _by_id(kcat_consume(requests))
        answered = set(_by_id(kcat_consume(replies)))
        assert set(before) == answered
        assert len(first) < len(answered) < REQUESTS  # some replies nobody got, some requests were never produced
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


def _slow_echo(asked: Asked) -> Reply:
    time.sleep(0.001)
    return Reply(asked.value)


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


async def _ask_until_killed(site: Site, keys: list[str]) -> Mapping[str, str]:
    """Ask for all keys, kill the server in the middle, and return what was answered."""
    answered: dict[str, str] = {}

    async def ask(client: httpx.AsyncClient, key: str) -> None:
        try:
            answered[key] = await _ask(client, key)
        except httpx.TransportError:
            return
        if len(answered) == ANSWERED_AT_THE_KILL:
            site.process.kill()

    async with _client(site) as client:
        await asyncio.gather(*(ask(client, key) for key in keys))
    return answered


async def _ask_all(site: Site, keys: list[str]) -> Mapping[str, str]:
    async with _client(site) as client:
        return dict(zip(keys, await asyncio.gather(*(_ask(client, key) for key in keys)), strict=True))


def _client(site: Site) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=AT_ONCE)
    return httpx.AsyncClient(base_url=site.url, limits=limits, timeout=httpx.Timeout(60, pool=None))


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
