"""Never a 2xx for a record that was not acknowledged as its route asks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from kafkaproxy.http.problems import from_produce_error
from kafkaproxy.worker.errors import ProduceError
from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.kafka.producer import AckedProducer
from kafkaproxy.worker.types import Acks, ClusterConfig, Delivery
from tests.conftest import TopicFactory
from tests.faults.asking import assert_unavailable, unique, until_put
from tests.faults.conftest import StartProxy
from tests.kafka import Broker, Cluster
from tests.support.proxy import configuration, gateway, produce


@pytest.fixture
def producer(tmp_path: Path) -> Iterator[AckedProducer]:
    """A producer whose broker accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        config = ClusterConfig(name="c", client={"bootstrap.servers": servers})
        made = AckedProducer(config, servers, Acks.IN_SYNC_REPLICAS, Limits(store_dir=tmp_path, produce_timeout=0.5))
        yield made
        made.close(0)


async def test_each_route_waits_for_the_acknowledgement_it_asks_for(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="acks")
    routes = [produce(f"/{acks}", topic=name, acks=acks, name=acks) for acks in Acks]
    proxy = start(configuration(kafka.bootstrap, gateway(*routes)))
    cluster = proxy.runtime.worker.cluster("default")
    for acks in Acks:
        assert (await proxy.request("POST", f"/{acks}", content=acks.encode())).status_code == 204
    assert {record.value for record in kafka.wait_for(name, 3)} == set(Acks)
    offsets = {acks: (await cluster.send(acks, name, None, b"x", ())).offset for acks in Acks}
    assert offsets[Acks.NONE] == -1  # its offset is not known
    assert offsets[Acks.LEADER_ONLY] >= 3
    assert offsets[Acks.IN_SYNC_REPLICAS] >= 3


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, 413),
        (KafkaError.INVALID_RECORD, 400),
        (KafkaError.POLICY_VIOLATION, 400),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, 503),
        (KafkaError._ALL_BROKERS_DOWN, 503),
        (KafkaError._QUEUE_FULL, 503),
        (KafkaError.NOT_ENOUGH_REPLICAS, 503),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, 502),
        (KafkaError._MSG_TIMED_OUT, 504),
        (KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, 504),  # it is in the log, and may go again
        (KafkaError.UNKNOWN, 503),
    ],
)
def test_every_refusal_has_its_status(producer: AckedProducer, code: int, status: int) -> None:
    problem = from_produce_error(producer._error(KafkaError(code)), 7)
    assert problem.status == status
    assert (status == 503) == ((b"retry-after", b"7") in problem.fields)


def test_what_timed_out_in_an_outage_that_it_was_handed_over_in_went_nowhere(producer: AckedProducer) -> None:
    producer._brokers.mark_reachable()
    producer._on_error(0, KafkaError(KafkaError._ALL_BROKERS_DOWN))
    outage = producer._brokers.outage
    assert from_produce_error(producer._error(KafkaError(KafkaError._MSG_TIMED_OUT), outage), 1).status == 503


def test_what_timed_out_may_have_been_sent_where_a_broker_answered_before_or_since(producer: AckedProducer) -> None:
    timed_out = KafkaError(KafkaError._MSG_TIMED_OUT)
    before = producer._brokers.outage
    producer._brokers.mark_reachable()
    assert from_produce_error(producer._error(timed_out, before), 1).status == 504
    while_up = producer._brokers.outage
    producer._on_error(0, KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert from_produce_error(producer._error(timed_out, while_up), 1).status == 504
    assert from_produce_error(producer._error(timed_out, before), 1).status == 504


async def test_a_full_queue_is_503_at_once_and_loses_nothing_it_took(broken_kafka: Broker, start: StartProxy) -> None:
    name = broken_kafka.create_topic(unique("queue"))
    routes = gateway(produce("/items", topic=name))
    proxy = start(configuration(broken_kafka.bootstrap, routes, **{"queue.buffering.max.messages": 10}))
    await until_put(proxy, "/items", b"first")
    broken_kafka.pause()
    requests = [proxy.request("POST", "/items", content=str(number).encode()) for number in range(50)]
    statuses = asyncio.gather(*requests)
    acked = proxy.runtime.worker.cluster("default")._producers[Acks.IN_SYNC_REPLICAS]
    while acked.queued() < 10:  # noqa: ASYNC110 - librdkafka's queue says nothing by itself
        await asyncio.sleep(0.01)
    full = await proxy.request("POST", "/items", content=b"one too many")
    assert_unavailable(full, "produce-queue-full")
    assert "retry-after" in full.headers
    broken_kafka.resume()
    taken = [str(number) for number, response in enumerate(await statuses) if response.status_code == 204]
    refused = [response for response in await statuses if response.status_code != 204]
    assert {response.json()["type"] for response in refused} <= {
        "urn:kafkaproxy:problem:produce-queue-full",
        "urn:kafkaproxy:problem:produce-timed-out",
    }
    await until_put(proxy, "/items", b"last")
    stored = [record.value for record in broken_kafka.consume(name)]
    assert stored[0] == "first"
    assert set(taken) <= set(stored)
    assert "one too many" not in stored


async def test_a_producer_that_fails_for_good_is_replaced(
    kafka: Cluster, topic: TopicFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # With a guarantee of no gaps, librdkafka takes a record that the broker refuses for a fatal error.
    name = topic(name="fatal", config={"max.message.bytes": "2000"})
    config = ClusterConfig(name="c", client={"enable.gapless.guarantee": True})
    producer = AckedProducer(config, kafka.bootstrap, Acks.IN_SYNC_REPLICAS, Limits(store_dir=tmp_path))
    await producer.produce(name, None, b"before", ())
    with pytest.raises(ProduceError):
        await producer.produce(name, None, b"x" * 5000, ())
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(ProduceError):
                await producer.produce(name, None, b"after", ())
                break
    producer.close(10)
    assert caplog.text.count("producer_recreated producer=c/in_sync_replicas") == 1
    assert [record.value for record in kafka.consume(name)] == ["before", "after"]


async def test_a_fatal_error_of_the_producer_before_replaces_nothing(producer: AckedProducer) -> None:
    first = producer._producer
    fatal = KafkaError(KafkaError._FATAL, "out of order", fatal=True)
    producer._on_error(0, fatal)
    second = producer._producer
    assert second is not first
    producer._on_error(0, fatal)
    assert producer._producer is second
    with pytest.raises(ProduceError):
        await producer.produce("t", None, b"x", ())


async def test_a_report_for_a_request_that_was_cancelled_hurts_nobody(producer: AckedProducer) -> None:
    mailbox = producer._mailbox()
    gone, there = mailbox.begin("t", 1, None), mailbox.begin("t", 1, None)
    assert gone.future is not None
    assert there.future is not None
    gone.future.cancel()
    future = there.future
    mailbox.post(gone, Delivery("t", 0, 0))
    mailbox.post(there, Delivery("t", 0, 0))
    assert (await future).offset == 0
