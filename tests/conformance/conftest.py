"""Fixtures of the conformance tests: proxies and services that are always closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kafkaproxy.routing.table import Configuration, Gateway, GuardConfig, Route
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, gateway
from tests.support.service import Answer, Service, echo
from tests.support.tokens import jwk, options

StartProxy = Callable[..., Proxy]
StartService = Callable[..., Service]
Begin = Callable[..., Proxy]


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


@pytest.fixture
def topics(kafka: Cluster, topic: TopicFactory) -> dict[str, str]:
    """Make ``items``, with an apple of alice's and a pear of bob's, ``commands`` and ``replies``."""
    compacted = {"cleanup.policy": "compact"}
    names = {
        "items": topic(name="items", config=compacted),
        "commands": topic(name="commands"),
        "replies": topic(name="replies"),
    }
    kafka.produce(names["items"], "apple", key="1", headers=[("zilla:identity", "alice")])
    kafka.produce(names["items"], "pear", key="2", headers=[("zilla:identity", "bob")])
    return names


@pytest.fixture
def begin(kafka: Cluster, tmp_path: Path) -> Iterator[Begin]:
    """Start guarded proxies: ``begin(*gateways, guards={name: {"kind":, "options":}})``; there is a jwt guard ``g`` anyway."""
    running: list[Proxy] = []
    own = GuardConfig(name="g", kind="jwt", options=options(jwk("ES256"), attributes={"tenant": "tenant"}))

    def start(*gateways: Gateway, guards: Mapping[str, dict[str, Any]] | None = None) -> Proxy:
        made = {"g": own} | {name: GuardConfig(name=name, **given) for name, given in (guards or {}).items()}
        config = replace(configuration(kafka.bootstrap, *gateways), guards=made)
        running.append(Proxy(tmp_path / str(len(running)), config))
        return running[-1]

    yield start
    for proxy in running:
        proxy.close()
