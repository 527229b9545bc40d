"""An imported configuration at work on a real Apache Kafka: records seen by a client that is not ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async

from kafkaproxy.routing.compile import load_configuration
from kafkaproxy.zilla.sync.apply import apply_plan
from tests.kafka import Cluster, Consumed
from tests.support.proxy import Proxy
from tests.support.zilla_samples import planned

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True)]

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest_asyncio.fixture
async def items(topic: Callable[..., str]) -> str:
    """The topic that the samples share, under a name of its own."""
    return await sync_to_async(topic)(config={"cleanup.policy": "compact"})


@pytest_asyncio.fixture
async def proxy(items: str, kafka: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """A proxy of the samples crud and cache."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)

    def load() -> Proxy:
        for name in ("crud", "cache"):
            text = (FIXTURES / f"{name}.yaml").read_text()
            text = text.replace("topic: items\n", f"topic: {items}\n").replace("        - items\n", f"        - {items}\n")
            apply_plan(planned(text)[0])
        return Proxy(tmp_path / "store", load_configuration())

    running = await sync_to_async(load)()
    yield running
    await sync_to_async(running.close)()


async def test_what_the_imported_routes_write_the_imported_routes_serve(
    proxy: Proxy, items: str, kcat_consume: Callable[[str], list[Consumed]]
) -> None:
    for key, value in (("1", "one"), ("2", "two")):
        answer = await proxy.request("PUT", f"/items/{key}", json=value)
        assert answer.status_code == 204
    assert (await proxy.request("POST", "/items", json="three", headers={"idempotency-key": "3"})).status_code == 204
    assert (await proxy.request("DELETE", "/items/2")).status_code == 204
    records = await sync_to_async(kcat_consume)(items)
    assert [(record.key, record.value) for record in records] == [
        ("1", '"one"'),
        ("2", '"two"'),
        ("3", '"three"'),
        ("2", None),
    ]
    for path in ("/items/1", "/cache/items/1"):
        answer = await proxy.request("GET", path)
        assert (answer.status_code, answer.json()) == (200, "one")
    assert (await proxy.request("GET", "/cache/items")).json() == ["one", "three"]
    assert (await proxy.request("GET", "/items/2")).status_code == 404
    assert (await proxy.request("PUT", "/cache/items/1", json="x")).status_code == 405
    assert (await proxy.request("GET", "/elsewhere")).text == "the site"
