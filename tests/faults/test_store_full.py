"""A store that one topic fills up: that topic stops, and says so; the others of the cluster go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import lmdb
import pytest

from kafkaproxy.admin.pages.live import snapshot
from kafkaproxy.metrics import STORE_BYTES, TOPICS_STOPPED
from kafkaproxy.worker.store.writer import StoreWriter
from kafkaproxy.worker.types import Role
from tests.conftest import TopicFactory
from tests.faults.asking import PATIENCE, assert_unavailable, get, until_body, until_status
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce, stream

MEGABYTE = 1 << 20


def records(megabytes: float) -> Iterable[dict[str, Any]]:
    return ({"key": f"k{number}", "value": json.dumps("x" * 10_000)} for number in range(round(megabytes * 100)))


async def until_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is looked at says nothing by itself
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def _little_room(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "STORE_MAX_BYTES": 4 * MEGABYTE, "READY_TIMEOUT_SECONDS": 20}
    for metric in (STORE_BYTES, TOPICS_STOPPED):
        monkeypatch.setattr(metric, "cells", {})


@pytest.fixture
def names(topic: TopicFactory) -> tuple[str, str]:
    """A topic that becomes large, and one that stays small."""
    return topic(name="large"), topic(name="small")


@pytest.fixture
def proxy(kafka: Cluster, names: tuple[str, str], start: StartProxy) -> Proxy:
    large, small = names
    routes = gateway(
        produce("PUT /large/{id}", topic=large, key="${params.id}", name="put-large"),
        fetch("GET /large/{id}", topic=large, filters=[{"key": "${params.id}"}], name="large"),
        produce("PUT /small/{id}", topic=small, key="${params.id}", name="put-small"),
        fetch("GET /small/{id}", topic=small, filters=[{"key": "${params.id}"}], name="small"),
        stream("GET /large", topic=large),
    )
    return start(configuration(kafka.bootstrap, routes))


async def test_a_topic_that_fills_the_store_is_503_and_the_others_go_on(
    kafka: Cluster, names: tuple[str, str], proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    large, small = names
    kafka.produce(small, b"1", key="a")
    await until_body(proxy, "/small/a", b"1")
    kafka.produce_many(large, records(8))
    assert_unavailable(await until_status(proxy, "/large/k0", 503), "topic-store-full")
    for number in range(30):
        assert (await proxy.request("PUT", "/small/a", content=str(number).encode())).status_code == 204
        assert (await get(proxy, "/small/a")).content == str(number).encode()
    assert_unavailable(await get(proxy, "/large/k0"), "topic-store-full")
    assert (await proxy.request("PUT", "/large/k0", content=b"taken")).status_code == 204
    assert caplog.text.count("store_full cluster") == 1
    assert caplog.text.count(f"topic={large}: raise KAFKAPROXY['STORE_MAX_BYTES']") == 1


async def test_the_page_and_the_metrics_tell_which(kafka: Cluster, names: tuple[str, str], proxy: Proxy) -> None:
    kafka.produce_many(names[0], records(8))
    await until_true(lambda: TOPICS_STOPPED.cell("default").value == 1)
    await until_true(lambda: STORE_BYTES.cell("default").value > 2 * MEGABYTE)
    assert STORE_BYTES.cell("default").value < 4.5 * MEGABYTE
    await until_true(lambda: snapshot(proxy.runtime)["clusters"][0]["errors"] == [f"{names[0]}: store_full"])


async def test_a_topic_that_was_stopped_goes_on_by_itself_when_there_is_room(
    kafka: Cluster, names: tuple[str, str], proxy: Proxy
) -> None:
    large, _ = names
    kafka.produce_many(large, records(8))
    await until_status(proxy, "/large/k0", 503)
    kafka.produce(large, b"newest", key="newest")
    kafka.delete_records(large, {0: 790})
    assert (await until_status(proxy, "/large/newest", 200)).content == b"newest"
    assert (await get(proxy, "/large/k799")).status_code == 200
    assert (await get(proxy, "/large/k0")).status_code == 404
    await until_true(lambda: TOPICS_STOPPED.cell("default").value == 0)


async def test_an_open_stream_of_a_topic_that_is_stopped_ends_and_a_new_one_is_503(
    kafka: Cluster, names: tuple[str, str], proxy: Proxy
) -> None:
    kafka.produce(names[0], b"first", key="a")
    await until_body(proxy, "/large/a", b"first")
    reading = asyncio.ensure_future(proxy.request("GET", "/large"))
    await until_true(lambda: len(proxy.runtime.streams) == 1)
    kafka.produce_many(names[0], records(8))
    response = await asyncio.wait_for(reading, PATIENCE)
    assert response.status_code == 200
    assert b"data:first" in response.content
    assert_unavailable(await get(proxy, "/large"), "topic-store-full")


@pytest.mark.parametrize("others", [0, 1])
async def test_streamed_topics_give_way_before_anybody_is_stopped(
    others: int, kafka: Cluster, topic: TopicFactory, start: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    streamed, fetched = topic(name="streamed"), topic(name="fetched")
    read = fetch("GET /f/{id}", topic=fetched, filters=[{"key": "${params.id}"}])
    proxy = start(configuration(kafka.bootstrap, gateway(stream("GET /s", topic=streamed), *[read] * others)))
    cluster = proxy.runtime.worker.cluster("default")
    state = await cluster.ready(streamed, Role.STREAM, 20)
    kafka.produce_many(streamed, records(12))
    await until_true(lambda: cluster.store.next_offsets(state.key)[0] == 1200)
    if others:
        kafka.produce(fetched, b"2", key="a")
        await until_body(proxy, "/f/a", b"2")
    assert cluster.store.progress(state.key)[0].complete_from > 800
    assert "store_full" not in caplog.text
    await until_true(lambda: 0 < STORE_BYTES.cell("default").value < 4.5 * MEGABYTE)


@pytest.mark.parametrize(
    ("error", "what_to_do"),
    [
        (lmdb.MapFullError("mdb_put"), "raise KAFKAPROXY['STORE_MAX_BYTES']"),
        (lmdb.DiskError("mdb_txn_commit: No space left on device"), "free the disk"),
        (lmdb.Error("mdb_txn_commit: Input/output error"), "free the disk"),  # a short write on a full disk
    ],
    ids=lambda each: type(each).__name__,
)
async def test_what_lmdb_or_the_disk_refuses_stops_the_topic_that_it_was_for(
    error: lmdb.Error,
    what_to_do: str,
    kafka: Cluster,
    names: tuple[str, str],
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    large, small = names
    await until_status(proxy, "/large/a", 404)
    real = StoreWriter.apply

    def refuse(self: StoreWriter, batches: Any, states: Any) -> None:
        if large in batches:
            raise error
        real(self, batches, states)

    monkeypatch.setattr(StoreWriter, "apply", refuse)
    kafka.produce(large, b"x", key="a")
    kafka.produce(small, b"y", key="a")
    await until_body(proxy, "/small/a", b"y")
    await until_status(proxy, "/large/a", 503)
    assert f"store_full cluster=default topic={large}: {what_to_do}" in caplog.text
    monkeypatch.setattr(StoreWriter, "apply", real)
    await until_body(proxy, "/large/a", b"x")  # the next look finds that there is room
