"""Fixtures of the fault tests: short times, a broker that may be broken, proxies that are always closed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kafkaproxy.routing.table import Configuration
from kafkaproxy.worker.ingest import metadata_poller as watcher
from kafkaproxy.worker.kafka import offsets
from kafkaproxy.worker.kafka import reachability as outage
from tests.conftest import start_broker
from tests.faults.processes import StartServer
from tests.kafka import Broker, Cluster
from tests.support.proxy import Proxy
from tests.support.servers import Site, serve

StartProxy = Callable[..., Proxy]


@pytest.fixture(autouse=True)
def _short_times(request: pytest.FixtureRequest, settings: Any) -> None:
    """Let what happens once in seconds happen several times a second, and what gives up on a broken broker do so soon.

    Elsewhere patience is what a slow machine needs.
    """
    breaks = "broken_kafka" in request.fixturenames and not request.path.name.startswith("test_stream_")
    settings.KAFKAPROXY = {
        **settings.KAFKAPROXY,
        "METADATA_SECONDS": 0.3,
        "RETENTION_SECONDS": 0.3,
        "READY_TIMEOUT_SECONDS": 3 if breaks else 15,
        "PRODUCE_TIMEOUT_SECONDS": 3 if "broken_kafka" in request.fixturenames else 15,
    }


@pytest.fixture(scope="package")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all the tests that break it: starting a new one for each would take most of their time."""
    with start_broker(tmp_path_factory, breakable=True) as broker:
        yield broker


@pytest.fixture
def broken_kafka(breakable: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """A broker that the test may stop, kill or pause; it is put right afterwards. That it is away is known soon."""
    monkeypatch.setattr(outage, "REFUSE_AFTER_SECONDS", 1.0)
    monkeypatch.setattr(watcher, "_TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(offsets, "_PATIENCE", 2.0)
    yield breakable
    if breakable.running:
        breakable.resume()
    else:
        breakable.start()


@pytest.fixture
def start_server(kafka: Cluster, name: str, tmp_path: Path, settings: Any) -> Iterator[StartServer]:
    """Start server processes that share a store; ``start_server(INGEST=False)`` changes a setting of one.

    The topic that they serve is the test's fixture ``name``.
    """
    with ExitStack() as stack:

        def start(**changes: Any) -> Site:
            env = {
                "INSTANCE_BOOTSTRAP": kafka.bootstrap,
                "INSTANCE_TOPIC": name,
                "INSTANCE_STORE": str(tmp_path / "store"),
                "INSTANCE_SETTINGS": json.dumps({**settings.KAFKAPROXY, **changes}),
                "DJANGO_SETTINGS_MODULE": "tests.settings",
            }
            return stack.enter_context(serve("uvicorn", "tests.faults.instance:application", tmp_path, env=env))

        yield start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartProxy]:
    """Start proxies: ``start(configuration, folder="store")``. Instances of one folder share a store."""
    running: list[Proxy] = []

    def start(config: Configuration, folder: str = "store") -> Proxy:
        running.append(Proxy(tmp_path / folder, config))
        return running[-1]

    yield start
    for proxy in running:
        proxy.close()
