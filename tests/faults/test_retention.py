"""What Kafka removes, or never lets readers see: retention, compaction, aborted transactions."""

from __future__ import annotations

import asyncio
import time
import uuid

from confluent_kafka import Producer

from tests.conftest import TopicFactory
from tests.faults.asking import get, items, until_body, until_status
from tests.faults.conftest import StartProxy
from tests.kafka import Cluster
from tests.support.proxy import configuration


async def test_what_retention_removes_is_served_no_longer(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic(name="trimmed", partitions=2)
    for number in range(6):
        kafka.produce(name, str(number), key=str(number), partition=number % 2)
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_body(proxy, "/items", b"[0,2,4,1,3,5]")
    kept = (await get(proxy, "/items/4")).headers["etag"]
    kafka.delete_records(name, {0: 2, 1: 1})
    await until_body(proxy, "/items", b"[4,3,5]")
    for number in (0, 1, 2):
        assert (await get(proxy, f"/items/{number}")).status_code == 404
    assert (await get(proxy, "/items/4", if_none_match=kept)).status_code == 304
    kafka.delete_records(name, {0: 3, 1: 3})
    await until_body(proxy, "/items", b"[]")
    kafka.produce(name, '"again"', key="0", partition=0)
    await until_body(proxy, "/items", b'["again"]')


async def test_retention_by_time_reaches_the_proxy(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic(name="aged", config={"retention.ms": "4000", "segment.ms": "1000"})
    kafka.produce(name, "1", key="a")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_body(proxy, "/items/a", b"1")
    await until_status(proxy, "/items/a", 404)
    assert (await get(proxy, "/items")).content == b"[]"


async def test_a_wait_ends_when_retention_changes_what_is_merged(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="trimmed-while-waiting")
    kafka.produce_many(name, [{"value": str(number)} for number in range(4)])
    proxy = start(configuration(kafka.bootstrap, items(name)))
    etag = (await until_body(proxy, "/items", b"[0,1,2,3]")).headers["etag"]
    kafka.delete_records(name, {0: 2})
    assert (await get(proxy, "/items", if_none_match=etag, prefer="wait=60")).content == b"[2,3]"


async def test_a_reader_that_was_away_goes_on_behind_what_was_removed(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="trimmed-while-away")
    kafka.produce_many(name, [{"value": str(number), "key": str(number)} for number in range(4)])
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_body(proxy, "/items", b"[0,1,2,3]")
    proxy.close()
    kafka.produce_many(name, [{"value": str(number), "key": str(number)} for number in range(4, 9)])
    kafka.delete_records(name, {0: 7})  # its position, 4, is below the log now
    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert (await get(proxy, "/items")).content == b"[7,8]"
    assert (await get(proxy, "/items/0")).status_code == 404
    assert (await get(proxy, "/items/5")).status_code == 404
    assert (await get(proxy, "/items/8")).content == b"8"


async def test_a_log_that_was_emptied_while_the_reader_was_away_is_empty(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="emptied-while-away")
    kafka.produce_many(name, [{"value": str(number), "key": str(number)} for number in range(4)])
    proxy = start(configuration(kafka.bootstrap, items(name)))
    await until_body(proxy, "/items", b"[0,1,2,3]")
    proxy.close()
    kafka.delete_records(name, {0: 4})
    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert (await get(proxy, "/items")).content == b"[]"
    assert (await get(proxy, "/items/0")).status_code == 404


async def test_compaction_changes_nothing_for_clients(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "100",
    }
    name = topic(name="compacted", config=config)
    kafka.produce_many(name, [{"value": str(number), "key": "a"} for number in range(20)])
    kafka.produce(name, None, key="gone")
    proxy = start(configuration(kafka.bootstrap, items(name)))
    etag = (await until_body(proxy, "/items/a", b"19")).headers["etag"]
    deadline = time.monotonic() + 60
    while len(kafka.consume(name)) > 10:  # each turn begins a segment, which lets the cleaner at the one before
        kafka.produce(name, "null", key="b")
        assert time.monotonic() < deadline, "the broker did not compact"
        await asyncio.sleep(0.3)
    await until_body(proxy, "/items/b", b"null")
    assert (await get(proxy, "/items/a", if_none_match=etag)).status_code == 304
    assert (await get(proxy, "/items/gone")).status_code == 404
    assert (await get(proxy, "/items")).content == b"[19,null]"
    fresh = start(configuration(kafka.bootstrap, items(name)), folder="fresh")
    assert (await until_body(fresh, "/items", b"[19,null]")).status_code == 200
    assert (await get(fresh, "/items/a", if_none_match=etag)).status_code == 304


async def test_aborted_and_open_transactions_are_not_served(kafka: Cluster, topic: TopicFactory, start: StartProxy) -> None:
    name = topic(name="transactions")
    kafka.produce(name, '"plain"', key="a")
    writer = _transactional(kafka)
    _write(writer, name, "a", '"aborted"')
    writer.abort_transaction(30)
    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert (await get(proxy, "/items")).content == b'["plain"]'  # a control record ends the log, and does not hold it up
    _write(writer, name, "a", '"committed"')
    assert (await get(proxy, "/items/a")).content == b'"plain"'
    writer.commit_transaction(30)
    etag = (await until_body(proxy, "/items/a", b'"committed"')).headers["etag"]
    _write(writer, name, "a", '"aborted too"')
    writer.abort_transaction(30)
    kafka.produce(name, '"end"', key="end")
    await until_body(proxy, "/items/end", b'"end"')
    assert (await get(proxy, "/items/a", if_none_match=etag)).status_code == 304
    assert (await get(proxy, "/items")).content == b'["plain","committed","end"]'


async def test_an_open_transaction_does_not_hold_up_the_first_read(
    kafka: Cluster, topic: TopicFactory, start: StartProxy
) -> None:
    name = topic(name="open-transaction")
    kafka.produce(name, '"plain"', key="a")
    writer = _transactional(kafka)
    _write(writer, name, "a", '"open"')
    kafka.produce(name, '"behind"', key="b")  # readers of committed records do not see past the open transaction
    proxy = start(configuration(kafka.bootstrap, items(name)))
    assert (await get(proxy, "/items")).content == b'["plain"]'
    assert (await get(proxy, "/items/b")).status_code == 404
    writer.commit_transaction(30)
    await until_body(proxy, "/items", b'["plain","open","behind"]')


def _transactional(kafka: Cluster) -> Producer:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"faults-{uuid.uuid4()}"})
    producer.init_transactions(30)
    return producer


def _write(producer: Producer, topic: str, key: str, value: str) -> None:
    """Begin a transaction and write a record that Kafka has when this returns."""
    producer.begin_transaction()
    producer.produce(topic, value, key)
    producer.flush(30)
