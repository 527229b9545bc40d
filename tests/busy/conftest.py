"""Fixtures of the tests under traffic: producers and proxies that are always stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conformance.conftest import StartService, service
from tests.conftest import TopicFactory
from tests.faults.conftest import StartProxy, start, start_server
from tests.kafka import Cluster
from tests.support.traffic import Flow, Traffic

__all__ = ["Begin", "StartProxy", "StartService", "begin", "service", "start", "start_server"]

Begin = Callable[..., Traffic]


@pytest.fixture(autouse=True)
def _short_times(settings: Any) -> None:
    """Look for new partitions, re-created topics and where logs start several times a second."""
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "METADATA_SECONDS": 0.3, "RETENTION_SECONDS": 0.3}


@pytest.fixture
def impatient(settings: Any) -> None:
    """Answer 503 at once where a topic is not ready: that it was not, for a moment, must not be hidden by a wait."""
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "READY_TIMEOUT_SECONDS": 0.05}


@pytest.fixture
def begin(kafka: Cluster, topic: TopicFactory) -> Iterator[Begin]:
    """Begin flows that go on until the test ends: ``begin(flow, flow, ...)`` → a :class:`Traffic` that runs."""
    # It asks for ``topic`` so that flows end before their topics are deleted.
    with ExitStack() as stack:

        def begin(*flows: Flow) -> Traffic:
            return stack.enter_context(Traffic(kafka.bootstrap, *flows))

        yield begin
