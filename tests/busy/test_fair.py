"""A topic that takes long to read does not hold up the others."""

from __future__ import annotations

import asyncio

from tests.busy.conftest import Begin, StartProxy, StartService
from tests.busy.watching import answered
from tests.conftest import TopicFactory
from tests.faults.asking import items, until_body, until_status
from tests.kafka import Cluster
from tests.support.proxy import configuration, fetch, gateway, produce
from tests.support.traffic import Flow

RECORDS = 300_000


async def test_a_topic_that_is_caught_up_does_not_hold_up_the_others(
    kafka: Cluster, topic: TopicFactory, start: StartProxy, begin: Begin, service: StartService
) -> None:
    big, quiet, requests, replies = (topic(name=name) for name in ("big", "quiet", "requests", "replies"))
    value = "x" * 100
    kafka.produce_many(big, ({"key": f"k{number % 1000}", "value": value} for number in range(RECORDS)))
    begin(Flow(topic=big, rate=1_000))
    service(requests)
    small = gateway(
        *items(quiet).entries[0].routes, produce("POST /ask", topic=requests, reply_to=replies, name="ask"), name="small"
    )
    proxy = start(configuration(kafka.bootstrap, small))
    await until_status(proxy, "/items/1", 404)
    await answered(proxy, "/ask", b"first")
    all_of_it = gateway(fetch("GET /big/{id}", topic=big, filters=[{"key": "${params.id}"}], name="big"), name="big")
    await asyncio.to_thread(proxy.runtime.configure, configuration(kafka.bootstrap, small, all_of_it))
    topics = proxy.runtime.worker.cluster("default").topics
    exchanges = 0
    while big not in topics() or not topics()[big].ready:
        await answered(proxy, "/ask", b"%d" % exchanges)
        await asyncio.to_thread(kafka.produce, quiet, str(exchanges), key="1")
        await until_body(proxy, "/items/1", b"%d" % exchanges)
        exchanges += big in topics() and not topics()[big].ready
    assert exchanges >= 3  # else this showed nothing
    assert (await until_status(proxy, "/big/k1", 200)).status_code == 200
