"""What Kafka says of logs: topics that are new, that do not exist, and brokers that die and come back."""

from __future__ import annotations

import asyncio

import pytest

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.kafka import offsets
from kafkaproxy.worker.kafka.offsets import LogOffsets
from tests.conftest import TopicFactory
from tests.faults.asking import unique
from tests.kafka import Broker, Cluster

QUESTIONS = ["ask", "ends", "bounds"]


def asking(cluster: Cluster) -> LogOffsets:
    return LogOffsets({"bootstrap.servers": cluster.bootstrap})


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_topic_that_does_not_exist(question: str, kafka: Cluster, topic: TopicFactory) -> None:
    asked = asking(kafka)
    with pytest.raises(TopicUnavailable) as raised:
        await getattr(asked, question)(unique("missing"), 2)
    assert raised.value.reason is Unavailable.UNKNOWN_TOPIC
    with pytest.raises(TopicUnavailable) as raised:
        await getattr(asked, question)(topic(partitions=2), 3)
    assert raised.value.reason is Unavailable.UNKNOWN_TOPIC


async def test_topics_that_have_just_been_made(kafka: Cluster, topic: TopicFactory) -> None:
    asked = asking(kafka)
    for _ in range(5):
        assert await asked.ask(topic(partitions=20), 20) == dict.fromkeys(range(20), 0)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_broker_that_is_away_is_no_missing_topic(
    question: str, own_kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = own_kafka.create_topic(unique("there"), 2)
    own_kafka.produce(name, "a record", partition=1)
    asked = asking(own_kafka)
    ends = {0: 0, 1: 1}
    assert await asked.ask(name, 2) == ends
    own_kafka.kill()
    monkeypatch.setattr(offsets, "_PATIENCE", 1.0)
    with pytest.raises(TopicUnavailable) as raised:
        await getattr(asked, question)(name, 2)
    assert raised.value.reason is Unavailable.UNREACHABLE
    monkeypatch.setattr(offsets, "_PATIENCE", 60.0)
    answer = asyncio.ensure_future(getattr(asked, question)(name, 2))
    await asyncio.to_thread(own_kafka.start)
    log = await answer
    assert {"ask": lambda: log, "ends": lambda: log[1], "bounds": lambda: log.latest}[question]() == ends
