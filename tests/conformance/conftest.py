"""Fixtures of the conformance tests: proxies and services that are always closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kafkaproxy.routing.table import Configuration, Route
from tests.kafka import Cluster
from tests.proxy import Proxy, configuration, gateway
from tests.service import Answer, Service, echo

StartProxy = Callable[..., Proxy]
StartService = Callable[..., Service]


@pytest.fixture
def start(kafka: Cluster, tmp_path: Path) -> Iterator[StartProxy]:
    """Start proxies: ``start(*routes, folder="store", **gateway_options)``. Instances of one folder share a store."""
    running: list[Proxy] = []

    def start(*routes: Route, folder: str = "store", config: Configuration | None = None, **options: Any) -> Proxy:
        running.append(Proxy(tmp_path / folder, config or configuration(kafka.bootstrap, gateway(*routes, **options))))
        return running[-1]

    yield start
    for proxy in running:
        proxy.close()


@pytest.fixture
def service(kafka: Cluster) -> Iterator[StartService]:
    """Start services: ``service(topic, answer=echo)``."""
    running: list[Service] = []

    def start(topic: str, answer: Answer = echo, **options: Any) -> Service:
        running.append(Service(kafka.bootstrap, topic, answer, **options))
        return running[-1]

    yield start
    for each in running:
        each.close()
