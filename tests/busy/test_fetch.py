"""Fetches, conditional fetches, merges and waits of topics that never come to rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import httpx
import pytest

from tests.busy.conftest import Begin, StartProxy
from tests.conftest import TopicFactory
from tests.faults.asking import get, items, until, until_body, until_status
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration
from tests.support.traffic import Flow, Traffic


@dataclass
class Stage:
    """A proxy that serves a topic with traffic, and two quiet keys: ``quiet``, and ``own``, which tests write."""

    kafka: Cluster
    proxy: Proxy
    topic: str
    traffic: Traffic
    flow: Flow


# The last number is that of the keys.
@pytest.fixture(params=[(20, 1, 4), (1_000, 1, 20), (1_000, 12, 20)], ids=["20", "1000", "1000 on 12 partitions"])
async def stage(kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, request: pytest.FixtureRequest) -> Stage:
    rate, partitions, keys = request.param
    name = topic(name="busy", partitions=partitions, config={"cleanup.policy": "compact"})
    kafka.produce(name, "-7", key="quiet")
    flow = Flow(topic=name, rate=rate, keys=keys)
    traffic = begin(flow)
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_status(proxy, "/items/quiet", 200)
    return Stage(kafka, proxy, name, traffic, flow)


async def test_a_fetch_follows_what_is_produced(stage: Stage) -> None:
    answered: list[int] = []
    etags: dict[int, str] = {}
    for _ in range(3):
        floor = stage.traffic.last(stage.flow).get("k1", 0)
        async with asyncio.timeout(60):
            while not answered or answered[-1] <= floor:
                response = await get(stage.proxy, "/items/k1")
                if response.status_code == 200:
                    answered.append(int(response.content))
                    assert etags.setdefault(answered[-1], response.headers["etag"]) == response.headers["etag"]
                await asyncio.sleep(0.01)
    assert answered == sorted(answered)
    assert len(set(etags.values())) == len(etags)


async def test_a_condition_on_a_quiet_key_holds_though_others_change(stage: Stage) -> None:
    etag = (await get(stage.proxy, "/items/quiet")).headers["etag"]
    assert (await get(stage.proxy, "/items/quiet", if_none_match=etag)).status_code == 304
    waited = await get(stage.proxy, "/items/quiet", if_none_match=etag, prefer="wait=1")
    assert (waited.status_code, waited.headers["preference-applied"]) == (304, "wait=1")
    assert (await get(stage.proxy, "/items/absent", prefer="wait=1")).status_code == 404


async def test_a_wait_for_a_quiet_key_ends_with_its_change(stage: Stage) -> None:
    etag = (await get(stage.proxy, "/items/quiet")).headers["etag"]
    waits = [
        asyncio.ensure_future(get(stage.proxy, "/items/quiet", if_none_match=etag, prefer="wait=60")),
        asyncio.ensure_future(get(stage.proxy, "/items/first", prefer="wait=60")),
    ]
    await asyncio.sleep(0.2)  # that they wait already is likely, and not needed
    await asyncio.to_thread(stage.kafka.produce, stage.topic, '"changed"', key="quiet")
    await asyncio.to_thread(stage.kafka.produce, stage.topic, '"came"', key="first")
    assert [(await each).content for each in waits] == [b'"changed"', b'"came"']


async def test_a_wait_for_a_busy_key_gives_what_is_newer(stage: Stage) -> None:
    seen = await get(stage.proxy, "/items/k1", prefer="wait=60")
    for _ in range(5):
        newer = await get(stage.proxy, "/items/k1", if_none_match=seen.headers["etag"], prefer="wait=60")
        assert newer.status_code == 200
        assert int(newer.content) > int(seen.content)
        seen = newer


async def test_a_merge_has_every_key_and_waits_for_changes(stage: Stage) -> None:
    keys = stage.flow.keys
    await asyncio.to_thread(stage.traffic.wait_for, stage.flow, keys)
    for _ in range(3):
        floor = {int(key[1:]): number for key, number in stage.traffic.last(stage.flow).items()}
        merged = await until(stage.proxy, "/items", partial(holds, keys=keys, floor=floor))
        changed = await get(stage.proxy, "/items", if_none_match=merged.headers["etag"], prefer="wait=60")
        assert holds(changed, keys=keys, floor=newest(merged, keys))
        assert newest(changed, keys) != newest(merged, keys)
        assert changed.headers["etag"] != merged.headers["etag"]


def holds(merged: httpx.Response, *, keys: int, floor: Mapping[int, int]) -> bool:
    """Check that a merge has one value of every key; return whether none is older than in ``floor``."""
    assert merged.status_code == 200
    values = newest(merged, keys)
    assert len(values) + 1 == len(json.loads(merged.content))  # the quiet key is among them
    return all(values.get(key, 0) >= number for key, number in floor.items())


def newest(merged: httpx.Response, keys: int) -> dict[int, int]:
    """Return the number of each busy key."""
    return {number % keys: number for number in json.loads(merged.content) if number > 0}


async def test_what_a_client_wrote_is_what_it_reads(stage: Stage) -> None:
    etag = ""
    for number in range(50):
        assert (await stage.proxy.request("PUT", "/items/own", content=b"%d" % number)).status_code == 204
        read = await get(stage.proxy, "/items/own", **({"if_none_match": etag} if etag else {}))
        assert (read.status_code, read.content) == (200, b"%d" % number)
        etag = read.headers["etag"]


@pytest.mark.parametrize("rate", [20, 1_000])
async def test_a_merge_of_all_records_has_no_gap(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, rate: int
) -> None:
    name = topic(name="events")
    flow = Flow(topic=name, rate=rate)
    traffic = begin(flow)
    proxy = start(configuration(kafka.bootstrap, items(name)))
    etag = (await until_status(proxy, "/items", 200)).headers["etag"]
    for _ in range(3):
        acknowledged = traffic.acknowledged(flow)
        values: list[int] = []
        while len(values) < acknowledged:
            merged = await get(proxy, "/items", if_none_match=etag, prefer="wait=60")
            assert merged.status_code == 200
            etag, values = merged.headers["etag"], json.loads(merged.content)
            assert values == list(range(1, len(values) + 1))
    await asyncio.to_thread(traffic.stop)
    await until_body(proxy, "/items", json.dumps(list(range(1, traffic.acknowledged(flow) + 1))).replace(" ", "").encode())
