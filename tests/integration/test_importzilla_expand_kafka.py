"""An imported openapi-asyncapi binding at work on a real Apache Kafka: records seen by a client that is not ours."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async

from kafkaproxy.routing.compile import load_configuration
from kafkaproxy.zilla.importer.importing import Options, plan_file
from kafkaproxy.zilla.report import Verdict
from kafkaproxy.zilla.sync.apply import apply_plan
from tests.kafka import Cluster, Consumed
from tests.support.proxy import Proxy
from tests.support.zilla_apis import COMPOSITES

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]

_TOPICS = ("shop-items", "shop-orders", "shop-answers")


@pytest_asyncio.fixture
async def topics(topic: Callable[..., str]) -> dict[str, str]:
    """The topics of the specification, under names of their own."""
    return {
        name: await sync_to_async(topic)(config={"cleanup.policy": "compact" if name == _TOPICS[0] else "delete"})
        for name in _TOPICS
    }


@pytest_asyncio.fixture
async def proxy(
    topics: dict[str, str], kafka: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    """A proxy of the fixture, with these topics."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)

    def load() -> Proxy:
        folder = tmp_path / "shop"
        shutil.copytree(COMPOSITES / "openapi", folder)
        text = (folder / "specs" / "kafka.yaml").read_text()
        for name, own in topics.items():
            text = text.replace(f"address: {name}\n", f"address: {own}\n")
        (folder / "specs" / "kafka.yaml").write_text(text)
        plan, report = plan_file(folder / "zilla.yaml", Options())
        assert report.of(Verdict.REFUSED) == []
        apply_plan(plan)
        return Proxy(tmp_path / "store", load_configuration())

    running = await sync_to_async(load)()
    yield running
    await sync_to_async(running.close)()


async def test_operations_write_and_read_the_channels_of_the_same_name(
    proxy: Proxy, topics: dict[str, str], kcat_consume: Callable[[str], list[Consumed]]
) -> None:
    for key in ("1", "2"):
        assert (await proxy.request("PUT", f"/v1/items/{key}", json={"id": key})).status_code == 204
    assert (await proxy.request("DELETE", "/v1/items/2")).status_code == 204
    records = await sync_to_async(kcat_consume)(topics["shop-items"])
    assert [(record.key, record.value and json.loads(record.value)) for record in records] == [
        ("1", {"id": "1"}),
        ("2", {"id": "2"}),
        ("2", None),
    ]
    assert (await proxy.request("GET", "/v1/items/1")).json() == {"id": "1"}
    assert (await proxy.request("GET", "/v1/items/2")).status_code == 404
    assert (await proxy.request("GET", "/v1/items")).json() == [{"id": "1"}]
    assert (await proxy.request("GET", "/items/1")).text == "the site"
    preflight = {"origin": "https://elsewhere.example", "access-control-request-method": "PUT"}
    assert (await proxy.request("OPTIONS", "/v1/items/1", headers=preflight)).headers["access-control-allow-origin"] == "*"


async def test_an_answer_comes_later_from_the_channel_of_the_replies(
    proxy: Proxy, topics: dict[str, str], kafka: Cluster, kcat_consume: Callable[[str], list[Consumed]]
) -> None:
    answer = await proxy.request("POST", "/v1/orders", json={"item": 1}, headers={"prefer": "respond-async"})
    assert answer.status_code == 202
    location = answer.headers["location"]
    assert location.startswith("/v1/orders;cid=")
    (request,) = await sync_to_async(kcat_consume)(topics["shop-orders"])
    correlation = request.header("order-id")
    assert location == f"/v1/orders;cid={correlation}"
    await asyncio.to_thread(kafka.produce, topics["shop-answers"], "done", headers=[("zilla:correlation-id", correlation)])
    polled = await proxy.request("GET", location, headers={"prefer": "wait=20"})
    assert (polled.status_code, polled.text) == (200, "done")
