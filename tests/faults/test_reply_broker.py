"""Routes with a reply on a broker that fails: never a 2xx for a record that Kafka may not have, never a wait for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.asking import PATIENCE, unique
from tests.faults.conftest import StartProxy
from tests.kafka import Broker
from tests.support.exchange import Exchange, assert_nobody_waits, until
from tests.support.proxy import CLUSTER, Proxy, configuration, gateway, produce

LOCATION = "/items/${params.id};cid=${correlationId}"
ASYNC = ("prefer", "respond-async")
WAIT = ("prefer", "wait=1")
Limit = Callable[..., None]


class Stage:
    """A proxy with an async route, and no service that answers."""

    def __init__(self, broker: Broker, start: StartProxy, **client: Any) -> None:
        self.requests, self.replies = (broker.create_topic(unique(name)) for name in ("requests", "replies"))
        route = produce(
            "/items/{id}", topic=self.requests, reply_to=self.replies, async_={"location": LOCATION}, timeout=PATIENCE
        )
        self.proxy: Proxy = start(configuration(broker.bootstrap, gateway(route), **client))

    def ask(self, *fields: tuple[str, str]) -> Exchange:
        asked = Exchange(self.proxy.app, "PUT", "/items/1", fields)
        asked.send(b"x")
        return asked

    async def until_it_works(self) -> None:
        """Wait until the reply topic is read and the producer is connected."""
        async with asyncio.timeout(PATIENCE):
            while (await self.ended(self.ask(ASYNC))).status != 202:
                pass
        await until(lambda: self.queued == 0)  # a moment later than its answer

    async def ended(self, asked: Exchange) -> Exchange:
        await asked.end()
        return asked

    @property
    def queued(self) -> int:
        return sum(each.queued() for each in self.proxy.runtime.worker.cluster(CLUSTER)._producers.values())


@pytest.fixture
def limit(settings: Any) -> Limit:
    def limit(**values: Any) -> None:
        settings.KAFKAPROXY = {**settings.KAFKAPROXY, **values}

    return limit


def assert_problem(answer: Exchange, status: int, code: str) -> None:
    assert (answer.status, f"urn:kafkaproxy:problem:{code}".encode() in answer.body) == (status, True), answer.body
    assert (b"retry-after" in dict(answer.fields)) == (status == 503)


async def test_what_a_frozen_broker_does_not_acknowledge_is_504_and_never_202(broken_kafka: Broker, start: StartProxy) -> None:
    stage = Stage(broken_kafka, start)
    await stage.until_it_works()
    broken_kafka.pause()
    unanswered = [stage.ask(), stage.ask(ASYNC), stage.ask(WAIT)]
    looking = stage.ask(ASYNC, ("idempotency-key", "key"))  # Kafka may have its reply, and does not say
    for each in unanswered:
        assert_problem(await stage.ended(each), 504, "produce-timed-out")
    assert_problem(await stage.ended(looking), 503, "topic-unreachable")
    assert_nobody_waits(stage.proxy)


async def test_a_wait_that_is_over_turns_into_202_only_once_kafka_has_the_record(
    broken_kafka: Broker, start: StartProxy, limit: Limit
) -> None:
    limit(PRODUCE_TIMEOUT_SECONDS=20)
    stage = Stage(broken_kafka, start)
    await stage.until_it_works()
    broken_kafka.pause()
    waiting, *leaving = stage.ask(WAIT), stage.ask(WAIT), stage.ask(ASYNC)
    await until(lambda: stage.proxy.runtime.worker.waiting == 2)  # the waits are over
    assert [each.messages for each in (waiting, *leaving)] == [[]] * 3
    for each in leaving:
        each.hang_up()
        await each.end()
        assert each.messages == []
    assert (stage.proxy.runtime.worker.waiting, stage.queued) == (1, 3)  # clients that left wait no longer
    broken_kafka.resume()
    assert (await stage.ended(waiting)).status == 202
    assert len(broken_kafka.wait_for(stage.requests, 4)) >= 4
    assert_nobody_waits(stage.proxy)


async def test_a_full_queue_is_503(broken_kafka: Broker, start: StartProxy, limit: Limit) -> None:
    limit(PRODUCE_TIMEOUT_SECONDS=20)
    stage = Stage(broken_kafka, start, **{"queue.buffering.max.messages": 1})
    await stage.until_it_works()
    broken_kafka.pause()
    taken = stage.ask()
    await until(lambda: stage.queued == 1)
    for fields in ((), (ASYNC,), (WAIT,)):
        assert_problem(await stage.ended(stage.ask(*fields)), 503, "produce-queue-full")
    assert taken.messages == []
    broken_kafka.resume()
    taken.hang_up()
    await taken.end()
    assert_nobody_waits(stage.proxy)


async def test_who_waits_hears_at_once_that_the_reply_topic_was_deleted(broken_kafka: Broker, start: StartProxy) -> None:
    stage = Stage(broken_kafka, start)
    await stage.until_it_works()
    location = dict((await stage.ended(stage.ask(ASYNC))).fields)[b"location"].decode()
    polling = Exchange(stage.proxy.app, "GET", location, [("prefer", "wait=40")])
    polling.send()
    waiting = [stage.ask(), stage.ask(("prefer", "wait=40")), polling]
    await until(lambda: stage.proxy.runtime.worker.waiting == 3 and stage.queued == 0)
    broken_kafka.delete_topics([stage.replies])
    for each in waiting:
        assert_problem(await stage.ended(each), 503, "topic-unknown-topic")
        assert (b"The request was delivered. With an idempotency key" in each.body) == (each is not polling)
    assert_nobody_waits(stage.proxy)
