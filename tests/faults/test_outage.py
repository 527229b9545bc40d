"""A cluster that is known to be away: clients hear it at once, and nothing fails once it is back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kafkaproxy.metrics import BROKER_UP
from kafkaproxy.worker.errors import ProduceFailure
from kafkaproxy.worker.kafka import reachability as outage
from kafkaproxy.worker.kafka.reachability import Reachability
from tests.faults.asking import PATIENCE, assert_unavailable, get, items, unique, until_body, until_put, until_status
from tests.faults.conftest import StartProxy
from tests.kafka import Broker
from tests.support.exchange import until
from tests.support.proxy import Proxy, configuration, gateway, produce

PUT = "/items/a"


class Brokers:
    """Brokers that answer when they are told to."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.asked = threading.Semaphore(0)

    def ask(self, seconds: float) -> None:
        self.asked.release()
        if not self.up.is_set():
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))


@pytest.fixture
def brokers() -> Brokers:
    return Brokers()


@pytest.fixture
def reachability(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reachability]:
    monkeypatch.setattr(outage, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(BROKER_UP, "cells", {})
    made = Reachability("c", "c/all", brokers.ask, lambda: 0)
    yield made
    made.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_nothing_is_refused_before_somebody_has_looked(reachability: Reachability) -> None:
    assert reachability.refusal is None
    assert reachability.outage is not None


def test_records_are_refused_while_nobody_answers_and_taken_again_when_somebody_does(
    reachability: Reachability, brokers: Brokers
) -> None:
    reachability.check_brokers()
    wait_for(lambda: reachability.refusal is ProduceFailure.UNREACHABLE)
    assert BROKER_UP.cell("c").value == 0
    brokers.up.set()
    wait_for(lambda: reachability.refusal is None)
    assert reachability.outage is None
    assert BROKER_UP.cell("c").value == 1


def test_a_doubt_that_proves_wrong_refuses_nothing(reachability: Reachability, brokers: Brokers) -> None:
    brokers.up.set()
    reachability.mark_reachable()
    reachability.check_brokers(ProduceFailure.UNREACHABLE)
    wait_for(lambda: reachability.outage is None)
    assert reachability.refusal is None


def test_a_refused_credential_is_told_as_such(reachability: Reachability, brokers: Brokers) -> None:
    reachability.check_brokers(ProduceFailure.UNREACHABLE)
    reachability.check_brokers(ProduceFailure.NOT_AUTHORIZED)
    wait_for(lambda: reachability.refusal is ProduceFailure.NOT_AUTHORIZED)
    reachability.check_brokers(ProduceFailure.UNREACHABLE)  # follows on every attempt
    assert brokers.asked.acquire(timeout=PATIENCE)
    assert reachability.outage is not None
    assert reachability.outage.reason is ProduceFailure.NOT_AUTHORIZED


def test_one_thread_looks_however_many_doubt(reachability: Reachability, brokers: Brokers) -> None:
    before = threading.active_count()
    for _ in range(20):
        reachability.check_brokers()
    assert threading.active_count() <= before + 1
    brokers.up.set()
    wait_for(lambda: reachability.outage is None)


def test_who_is_closed_looks_no_more(reachability: Reachability, brokers: Brokers) -> None:
    reachability.close()
    reachability.check_brokers()
    assert not brokers.asked.acquire(blocking=False)


async def until_refused(proxy: Proxy, method: str = "PUT", path: str = PUT) -> None:
    """Ask until the proxy knows that the cluster is away."""
    producers = proxy.runtime.worker.cluster("default")._producers
    async with asyncio.timeout(PATIENCE):
        while not any(each._brokers.refusal for each in producers.values()):
            await asyncio.gather(*(proxy.request(method, path, content=b"lost") for _ in range(2)))


async def test_what_is_known_to_be_away_is_503_without_a_wait_and_nothing_fails_once_it_is_back(
    broken_kafka: Broker, start: StartProxy, settings: Any
) -> None:
    topic = broken_kafka.create_topic(unique("away"))
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    await until_put(proxy, PUT, b"before")
    await until_body(proxy, PUT, b"before")
    broken_kafka.stop()
    await until_refused(proxy)
    refused = [await proxy.request("PUT", PUT, content=b"refused") for _ in range(200)]  # by turns: each would take 3 s
    for response in refused:
        assert_unavailable(response, "produce-unreachable")
    assert (await get(proxy, PUT)).content == b"before"
    broken_kafka.start()
    await until_put(proxy, PUT, b"after")
    for number in range(50):
        assert (await proxy.request("PUT", f"/items/{number}", content=b"x")).status_code == 204
    values = [record.value for record in broken_kafka.consume(topic)]
    assert "refused" not in values
    assert values[-51:] == ["after", *["x"] * 50]


async def test_a_frozen_broker_is_504_for_what_it_may_have_and_then_503(broken_kafka: Broker, start: StartProxy) -> None:
    topic = broken_kafka.create_topic(unique("frozen"))
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    await until_put(proxy, PUT, b"before")
    broken_kafka.pause()
    assert (await proxy.request("PUT", PUT, content=b"perhaps")).status_code == 504
    await until_refused(proxy)
    for _ in range(200):
        assert_unavailable(await proxy.request("PUT", PUT, content=b"refused"), "produce-unreachable")
    broken_kafka.resume()
    await until_put(proxy, PUT, b"after")
    assert "refused" not in [record.value for record in broken_kafka.consume(topic)]


async def test_what_was_handed_over_before_the_broker_was_killed_is_504(broken_kafka: Broker, start: StartProxy) -> None:
    topic = broken_kafka.create_topic(unique("in-flight"))
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    await until_put(proxy, PUT, b"before")
    broken_kafka.pause()
    request = asyncio.ensure_future(proxy.request("PUT", PUT, content=b"perhaps"))
    producers = proxy.runtime.worker.cluster("default")._producers
    await until(lambda: any(each.queued() for each in producers.values()))
    await asyncio.sleep(0.2)  # librdkafka sends at once what it is given, and does not say when
    broken_kafka.kill()
    assert (await request).status_code == 504


async def test_request_response_is_503_without_a_wait_too(broken_kafka: Broker, start: StartProxy) -> None:
    requests, replies = broken_kafka.create_topic(unique("requests")), broken_kafka.create_topic(unique("replies"))
    routes = gateway(produce("POST /sync", topic=requests, reply_to=replies, timeout=30), produce("PUT /one", topic=requests))
    proxy = start(configuration(broken_kafka.bootstrap, routes))
    await until_put(proxy, "/one", b"")
    await until_status(proxy, "/sync", 405)
    hurried = {"prefer": "wait=1"}
    await proxy.request("POST", "/sync", headers=hurried)  # 504: there is no reply; but the reply topic is read
    broken_kafka.stop()
    await until_refused(proxy, path="/one")
    for _ in range(50):
        assert_unavailable(await proxy.request("POST", "/sync"), "produce-unreachable")


async def test_a_topic_that_was_never_read_is_503_without_a_wait_once_the_cluster_is_known_to_be_away(
    broken_kafka: Broker, start: StartProxy, settings: Any
) -> None:
    topic = broken_kafka.create_topic(unique("unread"))
    broken_kafka.produce(topic, "there", key="a")
    broken_kafka.stop()
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "READY_TIMEOUT_SECONDS": 20}
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    for _ in range(50):  # the first waits until it is known
        assert_unavailable(await get(proxy, PUT), "topic-unreachable")
    broken_kafka.start()
    assert (await until_status(proxy, PUT, 200)).content == b"there"


async def test_a_topic_that_was_read_before_a_restart_is_503_without_a_wait_too(
    broken_kafka: Broker, start: StartProxy, settings: Any, tmp_path: Path
) -> None:
    topic = broken_kafka.create_topic(unique("read-before"))
    broken_kafka.produce(topic, "there", key="a")
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    await until_body(proxy, PUT, b"there")
    proxy.close()
    broken_kafka.stop()
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "READY_TIMEOUT_SECONDS": 20}
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    for _ in range(50):
        assert_unavailable(await get(proxy, PUT), "topic-unreachable")
    broken_kafka.start()
    assert (await until_status(proxy, PUT, 200)).content == b"there"
