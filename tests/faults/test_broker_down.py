"""The broker is not there: at the start, or from some moment on."""

from __future__ import annotations

import asyncio
import time

import httpx

from tests.faults.asking import assert_unavailable, get, items, unique, until_body, until_put, until_status
from tests.faults.conftest import StartProxy
from tests.kafka import Broker
from tests.support.proxy import Proxy, configuration


async def test_a_broker_that_is_down_at_the_start_is_503_until_it_is_up(broken_kafka: Broker, start: StartProxy) -> None:
    topic = broken_kafka.create_topic(unique("down-at-start"))
    broken_kafka.produce(topic, "before", key="a")
    broken_kafka.stop()
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    read, written = await asyncio.gather(get(proxy, "/items/a"), proxy.request("PUT", "/items/b", content=b"lost"))
    assert read.json()["type"] in ("urn:kafkaproxy:problem:topic-not-read-yet", "urn:kafkaproxy:problem:topic-unreachable")
    assert_unavailable(read, read.json()["type"].rpartition(":")[2])
    assert_unavailable(written, "produce-unreachable")
    assert "127.0.0.1" not in read.text + written.text
    broken_kafka.start()
    assert (await until_status(proxy, "/items/a", 200)).content == b"before"
    await until_put(proxy, "/items/c", b"after")
    assert [record.value for record in broken_kafka.consume(topic)] == ["before", "after"]
    assert (await get(proxy, "/items/c")).content == b"after"


async def test_a_broker_that_goes_down_leaves_what_was_read_in_service(broken_kafka: Broker, start: StartProxy) -> None:
    topic = broken_kafka.create_topic(unique("down-later"), partitions=2)
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    await until_put(proxy, "/items/a", b'"before"')
    etag = (await until_body(proxy, "/items/a", b'"before"')).headers["etag"]
    broken_kafka.stop()
    written = await proxy.request("PUT", "/items/a", content=b'"meanwhile"')
    assert written.status_code in (503, 504)
    for _ in range(20):
        assert (await get(proxy, "/items/a")).content == b'"before"'
        assert (await get(proxy, "/items")).content == b'["before"]'
        assert (await get(proxy, "/items/a", if_none_match=etag)).status_code == 304
        assert (await get(proxy, "/items/none")).status_code == 404
        await asyncio.sleep(0.05)
    broken_kafka.start()
    await until_put(proxy, "/items/a", b'"after"')
    assert (await get(proxy, "/items/a")).content == b'"after"'
    assert (await get(proxy, "/items/a", if_none_match=etag)).status_code == 200


async def test_what_was_acknowledged_survives_a_killed_broker_and_stands_once(broken_kafka: Broker, start: StartProxy) -> None:
    topic = broken_kafka.create_topic(unique("killed"))
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    await until_status(proxy, "/items", 200)
    outcomes: dict[str, int] = {}
    writers = [asyncio.create_task(_write(proxy, f"w{number}", outcomes)) for number in range(8)]
    await _until(lambda: len(outcomes) >= 200)
    await asyncio.to_thread(broken_kafka.kill)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(broken_kafka.start)
    acknowledged = sum(status == 204 for status in outcomes.values())
    await _until(lambda: sum(status == 204 for status in outcomes.values()) >= acknowledged + 200)
    for each in writers:
        each.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    assert set(outcomes.values()) <= {204, 503, 504}
    values = [record.value for record in broken_kafka.consume(topic)]
    assert len(values) == len(set(values)), "a record stands twice"
    assert {name for name, status in outcomes.items() if status == 204} <= set(values)


async def test_a_frozen_broker_is_504_and_a_thawed_one_takes_records_again(broken_kafka: Broker, start: StartProxy) -> None:
    topic = broken_kafka.create_topic(unique("frozen"))
    proxy = start(configuration(broken_kafka.bootstrap, items(topic)))
    await until_put(proxy, "/items/a", b"1")
    await until_body(proxy, "/items/a", b"1")
    broken_kafka.pause()
    written = await proxy.request("PUT", "/items/a", content=b"2")
    assert written.status_code == 504
    assert written.json()["type"] == "urn:kafkaproxy:problem:produce-timed-out"
    assert (await get(proxy, "/items/a")).content == b"1"
    broken_kafka.resume()
    await until_put(proxy, "/items/a", b"3")
    await until_body(proxy, "/items/a", b"3")


async def _write(proxy: Proxy, name: str, outcomes: dict[str, int]) -> None:
    """POST records with values of their own, one after the other, and note how each went."""
    for number in range(100_000):
        value = f"{name}-{number}"
        response: httpx.Response = await proxy.request("POST", "/items", content=value.encode())
        outcomes[value] = response.status_code


async def _until(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
