"""Topics that are missing, appear, vanish, come back as others, and grow."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.conftest import TopicFactory
from tests.faults.asking import PATIENCE, assert_unavailable, get, items, unique, until, until_body, until_put, until_status
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster
from tests.support.proxy import configuration, fetch, gateway


async def test_a_missing_topic_is_503_until_it_is_created(kafka: Cluster, start: StartProxy) -> None:
    topic = unique("missing")
    proxy = start(configuration(kafka.bootstrap, items(topic)))
    assert_unavailable(await get(proxy, "/items/a"), "topic-unknown-topic")
    assert_unavailable(await get(proxy, "/items"), "topic-unknown-topic")
    assert_unavailable(await proxy.request("PUT", "/items/a", content=b"lost"), "produce-unknown-topic")
    kafka.create_topic(topic)
    try:
        await until_put(proxy, "/items/a", b"1")
        await until_body(proxy, "/items/a", b"1")
        await until_body(proxy, "/items", b"[1]")
        assert [record.value for record in kafka.consume(topic)] == ["1"]
    finally:
        kafka.delete_topics([topic])


async def test_a_missing_topic_of_a_template_is_503_until_it_is_created(kafka: Cluster, start: StartProxy) -> None:
    topic = unique("missing-template")
    routes = gateway(fetch("GET /any/{topic}", topic="${params.topic}", merge=True))
    proxy = start(configuration(kafka.bootstrap, routes))
    assert_unavailable(await get(proxy, f"/any/{topic}"), "topic-unknown-topic")
    kafka.create_topic(topic)
    try:
        kafka.produce(topic, "1")
        await until_body(proxy, f"/any/{topic}", b"[1]")
    finally:
        kafka.delete_topics([topic])


async def test_a_deleted_topic_is_503_and_its_records_are_served_no_longer(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="deleted")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_put(proxy, "/items/a", b"1")
    etag = (await until_body(proxy, "/items/a", b"1")).headers["etag"]
    kafka.delete_topics([name])
    assert_unavailable(await until_status(proxy, "/items/a", 503), "topic-unknown-topic")
    assert_unavailable(await get(proxy, "/items"), "topic-unknown-topic")
    assert_unavailable(await get(proxy, "/items/a", if_none_match=etag), "topic-unknown-topic")
    assert_unavailable(await proxy.request("PUT", "/items/a", content=b"lost"), "produce-unknown-topic")


@pytest.mark.parametrize(
    ("records", "partitions", "pause"),
    [(0, 1, False), (2, 1, True), (5, 1, False), (9, 1, False), (9, 3, True), (2, 3, False)],
    ids=["empty", "fewer", "as many", "more", "more partitions", "more partitions, fewer records"],
)
async def test_a_topic_that_is_created_again_shows_nothing_of_the_old_one(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, records: int, partitions: int, pause: bool
) -> None:
    name = topic(name="recreated")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    for number in range(5):
        assert (await proxy.request("PUT", f"/items/{number}", content=b'"old"')).status_code == 204
    one = (await until_body(proxy, "/items/4", b'"old"')).headers["etag"]
    merged = await until(proxy, "/items", lambda response: response.content.count(b"old") == 5)
    kafka.delete_topics([name])
    if pause:
        await until_status(proxy, "/items/4", 503)
    kafka.create_topic(name, partitions)
    for number in range(records):
        kafka.produce(name, '"new"', key=str(number), partition=number % partitions)
    new = b"[" + b",".join([b'"new"'] * records) + b"]"
    again = await until_body(proxy, "/items", new)
    assert again.headers["etag"] != merged.headers["etag"]
    # From here on the proxy knows the new topic, and nothing of the old one may show in any way.
    assert (await get(proxy, "/items", if_none_match=merged.headers["etag"])).status_code == 200
    for number in range(9):
        response = await get(proxy, f"/items/{number}", if_none_match=one)
        assert (response.status_code, response.content) == (200, b'"new"') if number < records else response.status_code == 404
    assert (await proxy.request("PUT", "/items/own", content=b'"mine"')).status_code == 204
    assert (await get(proxy, "/items/own")).content == b'"mine"'
    assert [record.value for record in kafka.consume(name) if record.key == "own"] == ['"mine"']


async def test_a_reader_that_was_away_notices_that_the_topic_is_another(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="recreated-while-away")
    kafka.produce(name, '"old"', key="a")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    etag = (await until_body(proxy, "/items/a", b'"old"')).headers["etag"]
    proxy.close()
    kafka.delete_topics([name])
    kafka.create_topic(name)
    kafka.produce(name, '"new"', key="b")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert (await get(proxy, "/items")).content == b'["new"]'
    assert (await get(proxy, "/items/a")).status_code == 404
    assert (await get(proxy, "/items/b", if_none_match=etag)).status_code == 200


async def test_partitions_that_are_added_are_read(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic(name="grows")
    kafka.produce(name, '"first"', key="a", timestamp=1_000)
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_body(proxy, "/items", b'["first"]')
    kafka.add_partitions(name, 3)
    kafka.produce(name, '"second"', key="b", partition=1, timestamp=2_000)
    kafka.produce(name, '"third"', key="c", partition=2, timestamp=3_000)
    await until_body(proxy, "/items", b'["first","second","third"]')
    assert (await get(proxy, "/items/c")).content == b'"third"'


async def test_the_newest_record_of_a_key_counts_wherever_a_grown_topic_keeps_it(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="grows-compacted", config={"cleanup.policy": "compact"})
    kafka.produce(name, '"old"', key="a", timestamp=1_000)
    kafka.produce(name, '"older"', key="b", timestamp=500)
    proxy = start(configuration(kafka.bootstrap, items(name)))
    etag = (await until_body(proxy, "/items/a", b'"old"')).headers["etag"]
    kafka.add_partitions(name, 3)
    kafka.produce(name, '"new"', key="a", partition=2, timestamp=2_000)
    kafka.produce(name, '"oldest"', key="b", partition=1, timestamp=400)
    await until_body(proxy, "/items/a", b'"new"')
    assert (await get(proxy, "/items/a", if_none_match=etag)).status_code == 200
    assert (await get(proxy, "/items/b")).content == b'"older"'
    assert (await get(proxy, "/items")).content == b'["older","new"]'
    kafka.produce(name, None, key="a", partition=1, timestamp=3_000)
    await until_status(proxy, "/items/a", 404)
    assert (await get(proxy, "/items")).content == b'["older"]'


async def test_a_topic_that_only_requests_name_is_kept_while_it_is_used(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, settings: Any
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "TOPIC_IDLE_SECONDS": 4}
    name = topic(name="used")
    kafka.produce(name, "1", key="a")
    routes = gateway(fetch("GET /any/{topic}/{key}", topic="${params.topic}", filters=[{"key": "${params.key}"}]))
    proxy = start(configuration(kafka.bootstrap, routes))
    store = proxy.runtime.worker.cluster("default").store
    assert (await get(proxy, f"/any/{name}/a")).status_code == 200
    first = store.interest()[name]["used"]
    while (used := store.interest()[name]["used"]) < first + 4:  # for longer than an idle topic is followed
        assert name in store.topics(), f"it was dropped {time.time() - used} s after it was used last"
        assert (await get(proxy, f"/any/{name}/a")).status_code == 200
        await asyncio.sleep(0.1)
    async with asyncio.timeout(PATIENCE):
        while name in store.topics():  # noqa: ASYNC110 - no request uses it: its room is for others
            await asyncio.sleep(0.05)
    assert (await get(proxy, f"/any/{name}/a")).content == b"1"
    assert (await get(proxy, f"/any/{name}/b")).status_code == 404
