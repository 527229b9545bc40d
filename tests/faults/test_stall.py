"""A broker that takes records and holds its answers back for longer than a request waits: what is acknowledged stands once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kafkaproxy.worker.kafka import mailbox
from kafkaproxy.worker.types import Acks
from tests.conftest import start_broker
from tests.faults.asking import assert_unavailable, unique, until_put
from tests.faults.conftest import StartProxy
from tests.kafka import Broker
from tests.kafka.stalling import StallingProxy
from tests.support.exchange import Exchange, until
from tests.support.proxy import CLUSTER, Proxy, configuration, gateway, produce
from tests.support.service import Service

LOCATION = "/async/${correlationId}"
KEY = ("idempotency-key", "key")
ASYNC = ("prefer", "respond-async")


@pytest.fixture(scope="module")
def between() -> Iterator[StallingProxy]:
    with StallingProxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, between: StallingProxy) -> Iterator[Broker]:
    """A broker; a proxy of ours reaches it through ``between``, and the test without it."""
    with start_broker(tmp_path_factory, breakable=True, proxy=between.address) as broker:
        between.begin(broker.listeners["PROXIED"])
        yield broker


class Stage:
    """A proxy whose producer can be stalled, with a oneway, a sync and an async route."""

    def __init__(self, broker: Broker, between: StallingProxy, start: StartProxy) -> None:
        self.broker = broker
        self.between = between
        self.oneway, self.requests, self.replies = (broker.create_topic(unique(each)) for each in ("one", "asked", "replies"))
        asked: dict[str, Any] = {"topic": self.requests, "reply_to": self.replies, "timeout": 30}
        routes = (
            produce("PUT /one", topic=self.oneway, name="one"),
            produce("PUT /other", topic=self.requests, name="other"),
            produce("POST /sync", name="sync", **asked),
            produce("POST /async", name="async", async_={"location": LOCATION}, **asked),
        )
        self.proxy: Proxy = start(configuration(between.address, gateway(*routes)))

    async def begin(self) -> None:
        """Stall, once everything works."""
        await until_put(self.proxy, "/one", b"first")
        async with asyncio.timeout(30):
            while (await self.ended(self.ask("/async", ASYNC))).status != 202:
                pass
        await until(lambda: self.queued == 0)
        self.between.stall()

    async def put(self, body: str, path: str = "/one") -> httpx.Response:
        return await self.proxy.request("PUT", path, content=body.encode())

    def ask(self, path: str, *fields: tuple[str, str]) -> Exchange:
        asked = Exchange(self.proxy.app, "POST", path, fields)
        asked.send(b"a body")
        return asked

    async def ended(self, asked: Exchange) -> Exchange:
        await asked.end()
        return asked

    @property
    def queued(self) -> int:
        return self.proxy.runtime.worker.cluster(CLUSTER)._producers[Acks.IN_SYNC_REPLICAS].queued()

    def keyed(self) -> list[str]:
        """Return the correlation ids of the requests with an idempotency key that Kafka has."""
        ids = [record.header("zilla:correlation-id") or "" for record in self.broker.consume(self.requests)]
        return [each for each in ids if each.startswith("key-")]


@pytest.fixture
def patience() -> int:
    """PRODUCE_TIMEOUT_SECONDS."""
    return 3


@pytest.fixture
async def stage(proxied: Broker, between: StallingProxy, start: StartProxy, settings: Any, patience: int) -> Any:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "PRODUCE_TIMEOUT_SECONDS": patience}
    made = Stage(proxied, between, start)
    await made.begin()
    yield made
    between.resume()


def assert_too_late(asked: Exchange) -> None:
    assert (asked.status, b"urn:kafkaproxy:problem:produce-timed-out" in asked.body) == (504, True), asked.body


@pytest.mark.parametrize("patience", [10])
async def test_what_is_acknowledged_after_others_were_given_up_stands_once(stage: Stage, patience: int) -> None:
    outcomes: dict[str, int] = {}

    async def send(number: int) -> None:
        await asyncio.sleep(number * patience / 40)
        outcomes[str(number)] = (await stage.put(str(number))).status_code

    sent = [asyncio.create_task(send(number)) for number in range(60)]
    await until(lambda: 504 in outcomes.values())
    await asyncio.sleep(patience / 5)  # 12 s of a stall for 10 s of patience
    stage.between.resume()
    await asyncio.gather(*sent)
    assert set(outcomes.values()) <= {204, 503, 504}
    acknowledged = {name for name, status in outcomes.items() if status == 204}
    assert len(acknowledged) > 10  # they were on their way when the first were given up
    await until_put(stage.proxy, "/one", b"last")
    assert stage.queued == 0
    stored = Counter(record.value for record in stage.broker.consume(stage.oneway))
    assert {name: stored[name] for name in acknowledged} == dict.fromkeys(acknowledged, 1)
    assert set(stored.values()) == {1}
    # What was not refused was written, in the end.
    assert {name for name, status in outcomes.items() if status == 504} <= stored.keys()


@pytest.mark.parametrize(("path", "fields", "status"), [("/sync", (), 200), ("/async", (ASYNC,), 202)])
async def test_a_retry_with_the_key_waits_for_the_record_that_is_there(
    stage: Stage, path: str, fields: tuple[tuple[str, str], ...], status: int
) -> None:
    service = Service(stage.broker.bootstrap, stage.requests)
    try:
        assert_too_late(await stage.ended(stage.ask(path, KEY, *fields)))
        again, leaving = stage.ask(path, KEY, *fields), stage.ask(path, KEY, *fields)
        leaving.hang_up()
        await stage.ended(leaving)
        stage.between.resume()
        assert (await stage.ended(again)).status == status
        await until(stage.keyed)
        assert (await stage.ended(stage.ask(path, KEY, *fields))).status == status
    finally:
        service.close()
    assert len(stage.keyed()) == 1


async def test_a_retry_after_the_late_acknowledgement_produces_nothing(stage: Stage) -> None:
    assert_too_late(await stage.ended(stage.ask("/async", KEY, ASYNC)))
    stage.between.resume()
    await until(lambda: stage.queued == 0)
    assert (await stage.ended(stage.ask("/async", KEY, ASYNC))).status == 202
    assert len(stage.keyed()) == 1


async def test_a_retry_after_a_client_that_left_before_the_acknowledgement_produces_nothing(stage: Stage) -> None:
    leaving = stage.ask("/sync", KEY)
    await until(lambda: stage.queued == 1)
    leaving.hang_up()
    await stage.ended(leaving)
    again = stage.ask("/async", KEY, ASYNC)  # another path: another request
    await until(lambda: stage.queued == 2)
    retry = stage.ask("/sync", KEY)
    stage.between.resume()
    assert (await stage.ended(again)).status == 202
    retry.hang_up()
    await stage.ended(retry)
    await until(lambda: stage.queued == 0)
    assert len(stage.keyed()) == len(set(stage.keyed())) == 2


async def test_a_topic_with_too_many_overdue_records_is_full_and_the_others_are_not(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "_MAX_OVERDUE_RECORDS", 2)
    for response in await asyncio.gather(stage.put("a"), stage.put("b")):
        assert response.status_code == 504
    full = await stage.put("c")
    assert_unavailable(full, "produce-queue-full")
    other = asyncio.create_task(stage.put("d", "/other"))
    await until(lambda: stage.queued == 3)
    stage.between.resume()
    await other
    await until_put(stage.proxy, "/one", b"last")
    assert "c" not in [record.value for record in stage.broker.consume(stage.oneway)]
