"""Fixtures of every kind of test."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
from hypothesis import settings as hypothesis_settings

from tests.kafka import Broker, Cluster, Consumed, Unavailable

NOTHING_IS_LOST = (
    "browser/test_eventsource.py",
    "busy/test_*.py",
    "conformance/test_reply_idempotency.py",
    "conformance/test_stream*.py",
    "faults/test_reply_kill.py",
    "faults/test_stream_*.py",
)
"""Tests that show that nothing is lost or done twice. One failure in three runs is a bug there, so they are never run again."""

# How long an example takes says more about the machine than about the code.
hypothesis_settings.register_profile("tests", deadline=None)
hypothesis_settings.load_profile("tests")

_KAFKA_FIXTURES = {"kafka", "own_kafka", "secure_kafka", "broken_kafka", "topic", "produce", "kcat_consume"}

TopicFactory = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a broker, so that ``-m kafka`` selects it, and say so in the JUnit report.

    ``--reruns`` leaves out the tests of :data:`NOTHING_IS_LOST`.
    """
    for item in items:
        if any(item.path.match(f"tests/{pattern}") for pattern in NOTHING_IS_LOST):
            item.add_marker(pytest.mark.flaky(reruns=0))
        if _KAFKA_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)
        if item.get_closest_marker("kafka"):
            item.user_properties.append(("kafka", "needed"))  # for .ci/kafka_tests_ran.py


@pytest.fixture(autouse=True)
def _kafka_marked(request: pytest.FixtureRequest) -> None:
    """A test that is marked ``kafka`` and asks for no fixture gets the shared broker, or is skipped, all the same."""
    if request.node.get_closest_marker("kafka") and not _KAFKA_FIXTURES.intersection(request.fixturenames):
        request.getfixturevalue("kafka")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The shared cluster: ``KAFKA_BOOTSTRAP_SERVERS``, or a broker of our own."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield Cluster(given)
    else:
        with start_broker(tmp_path_factory) as broker:
            yield broker


@pytest.fixture
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that the test alone uses, so it may stop, kill and restart it."""
    with start_broker(tmp_path_factory, breakable=True) as broker:
        yield broker


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with the listeners SASL_PLAINTEXT, SSL, SASL_SSL and MTLS beside the plain one."""
    with start_broker(tmp_path_factory, secure=True) as broker:
        yield broker


@pytest.fixture
def topic(kafka: Cluster, request: pytest.FixtureRequest) -> Iterator[TopicFactory]:
    """Create topics of the shared cluster: ``topic(partitions=1, config={}, name="")`` → a unique name."""
    created: list[str] = []

    def create(partitions: int = 1, config: dict[str, str] | None = None, name: str = "") -> str:
        stem = re.sub(r"[^a-zA-Z0-9._-]+", "-", name or request.node.name)[:100]
        created.append(kafka.create_topic(f"{stem}-{uuid.uuid4().hex[:8]}", partitions, config))
        return created[-1]

    yield create
    kafka.delete_topics(created)


@pytest.fixture
def produce(kafka: Cluster) -> Callable[..., tuple[int, int]]:
    """Produce to the shared cluster: ``produce(topic, value, key=, headers=, partition=, timestamp=)`` → its position."""
    return kafka.produce


@pytest.fixture
def kcat_consume(kafka: Cluster) -> Callable[[str], list[Consumed]]:
    """Read all of a topic with a client that is not ours: ``kcat_consume(topic)``."""
    return kafka.consume


def start_broker(tmp_path_factory: pytest.TempPathFactory, **options: Any) -> Broker:
    """Return a broker to use in a ``with``, or skip where none can be started."""
    try:
        return Broker(tmp_path_factory.mktemp("kafka"), **options)
    except Unavailable as reason:
        _no_kafka(f"no real Kafka: {reason}")


def _no_kafka(reason: str) -> NoReturn:
    if os.environ.get("KAFKAPROXY_REQUIRE_KAFKA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
