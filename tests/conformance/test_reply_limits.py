"""Limits of request-response: bodies, waits, clients that leave (the contract, *When it fails*; settings)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kafkaproxy.worker.types import Acks
from tests.conformance.conftest import StartProxy, StartService
from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.support.exchange import Exchange, assert_nobody_waits, until, until_ready
from tests.support.proxy import Proxy, configuration, gateway, produce
from tests.support.service import Reply, Service, echo

Consume = Callable[[str], list[Consumed]]
LOCATION = "/items/${params.id};cid=${correlationId}"


class Stage:
    """A proxy with an async route, and a service that is silent until it is told to answer."""

    def __init__(self, proxy: Proxy, service: Service, requests: str) -> None:
        self.proxy = proxy
        self.service = service
        self.requests = requests

    @property
    def waiting(self) -> int:
        return self.proxy.runtime.worker.waiting

    def ask(self, path: str = "/items/1", method: str = "POST", *fields: tuple[str, str], body: bytes = b"x") -> Exchange:
        asked = Exchange(self.proxy.app, method, path, fields)
        asked.send(body)
        return asked

    async def asked(self, *args: Any, **options: Any) -> Exchange:
        asked = self.ask(*args, **options)
        await asked.end()
        return asked

    def answer_all(self) -> None:
        self.service.answer = echo
        for asked in list(self.service.asked):
            self.service.reply(asked, echo(asked))


@pytest.fixture
async def stage(start: StartProxy, service: StartService, topic: TopicFactory) -> Stage:
    requests, replies = topic(name="requests"), topic(name="replies")
    proxy = start(produce("/items/{id}", topic=requests, key="${params.id}", reply_to=replies, async_={"location": LOCATION}))
    await until_ready(proxy, replies)
    return Stage(proxy, service(requests, lambda _asked: None), requests)


@pytest.fixture
def limit(settings: Any) -> Callable[..., None]:
    def limit(**values: Any) -> None:
        settings.KAFKAPROXY = {**settings.KAFKAPROXY, **values}

    return limit


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_a_body_over_the_limit_is_413(
    stage: Stage, limit: Callable[..., None], declared: bool, kcat_consume: Consume
) -> None:
    limit(MAX_BODY_BYTES=1000)
    for version, connection in (("1.1", b"close"), ("2", None)):  # RFC 9113 section 8.2.2: no such field in HTTP/2
        fields = [("content-length", "1001")] if declared else []
        asked = Exchange(stage.proxy.app, "POST", "/items/1", fields, http_version=version)
        asked.send(b"x" * 600, more=True)
        asked.send(b"x" * 401, more=True)  # and never an end
        await asked.end()
        assert asked.status == 413
        assert b"1000 bytes" in asked.body
        assert dict(asked.fields).get(b"connection") == connection
    assert kcat_consume(stage.requests) == []
    assert_nobody_waits(stage.proxy)


async def test_a_body_of_just_the_limit_passes(stage: Stage, limit: Callable[..., None]) -> None:
    limit(MAX_BODY_BYTES=1000)
    stage.service.answer = echo
    assert (await stage.asked(body=b"x" * 1000)).body == b"x" * 1000


async def test_a_record_that_the_broker_finds_too_large_is_413(start: StartProxy, topic: TopicFactory) -> None:
    requests = topic(name="requests", config={"max.message.bytes": "2000"})
    proxy = start(produce("/", topic=requests, reply_to=topic(name="replies")))
    for fields in ({}, {"idempotency-key": "k"}):
        response = await proxy.request("POST", "/", content=b"x" * 5000, headers=fields)
        assert response.status_code == 413
        assert response.json()["type"] == "urn:kafkaproxy:problem:produce-too-large"
    assert_nobody_waits(proxy)


async def test_a_missing_request_topic_is_503_for_all_who_share_the_record(start: StartProxy, topic: TopicFactory) -> None:
    proxy = start(produce("/", topic="there-is-no-such-topic", reply_to=topic(name="replies")))
    asking = [proxy.request("POST", "/", headers={"idempotency-key": "k"}) for _ in range(3)]
    answers = await asyncio.gather(*asking)
    assert {each.json()["type"] for each in answers} == {"urn:kafkaproxy:problem:produce-unknown-topic"}
    assert {each.headers["retry-after"] for each in answers} == {"1"}
    assert_nobody_waits(proxy)


async def test_more_waits_than_the_setting_are_503_with_retry_after(
    stage: Stage, limit: Callable[..., None], kcat_consume: Consume
) -> None:
    limit(MAX_WAITING_REQUESTS=3, RETRY_AFTER_SECONDS=7)
    waiting = [stage.ask() for _ in range(3)]
    await until(lambda: stage.waiting == 3 and len(stage.service.asked) == 3)
    accepted = await stage.asked("/items/1", "POST", ("prefer", "respond-async"))
    assert accepted.status == 202  # it does not wait
    location = dict(accepted.fields)[b"location"].decode()
    assert (await stage.asked(location, "GET")).status == 202
    for refused in (await stage.asked(), await stage.asked(location, "GET", ("prefer", "wait=9"))):
        assert refused.status == 503
        assert b"too-many-waiting" in refused.body
        assert dict(refused.fields)[b"retry-after"] == b"7"
    assert len(kcat_consume(stage.requests)) == 4
    waiting.pop().hang_up()
    await until(lambda: stage.waiting == 2)
    waiting.append(stage.ask())
    await until(lambda: stage.waiting == 3)
    await until(lambda: len(stage.service.asked) == 5)
    stage.answer_all()
    for each in waiting:
        await each.end()
        assert each.status == 200
    assert_nobody_waits(stage.proxy)


async def test_a_client_that_leaves_frees_everything_at_once(stage: Stage) -> None:
    waiting = [stage.ask("/items/1", "POST", ("idempotency-key", f"key-{number % 3}")) for number in range(20)]
    waiting += [stage.ask() for _ in range(20)]
    await until(lambda: stage.waiting == 40 and len(stage.service.asked) >= 20)
    await asyncio.sleep(0.5)  # those with a key have looked for a reply
    for each in waiting:
        each.hang_up()
    for each in waiting:
        await each.end()
        assert each.messages == []
    assert_nobody_waits(stage.proxy)
    stage.answer_all()
    assert (await stage.asked(body=b"and on it goes")).body == b"and on it goes"


async def test_a_client_that_leaves_while_its_record_is_refused_leaves_nothing(start: StartProxy, topic: TopicFactory) -> None:
    proxy = start(produce("/", topic="there-is-no-such-topic", reply_to=topic(name="replies")))
    asked = Exchange(proxy.app, "POST", "/", {"idempotency-key": "k"})
    asked.send(b"x")
    await until(lambda: proxy.runtime.worker.waiting)
    await asyncio.sleep(0.5)
    asked.hang_up()
    await asked.end()
    assert asked.messages == []
    assert_nobody_waits(proxy)


async def test_thousands_wait_without_a_thread_each(stage: Stage) -> None:
    threads = threading.active_count()
    waiting = [stage.ask(body=b"%d" % number) for number in range(2000)]
    await until(lambda: stage.waiting == 2000 and len(stage.service.asked) == 2000)
    assert threading.active_count() <= threads + 1
    stage.answer_all()
    for number, each in enumerate(waiting):
        await each.end()
        assert (each.status, each.body) == (200, b"%d" % number)
    assert_nobody_waits(stage.proxy)


@pytest.mark.parametrize("acks", list(Acks))
async def test_every_kind_of_acknowledgement_is_answered(
    acks: Acks, start: StartProxy, service: StartService, topic: TopicFactory
) -> None:
    requests, replies = topic(name="requests"), topic(name="replies")
    proxy = start(produce("/", topic=requests, reply_to=replies, acks=acks, async_={"location": "/;${correlationId}"}))
    service(requests)
    assert (await proxy.request("POST", "/", content=b"sync")).content == b"sync"
    accepted = await proxy.request("POST", "/", content=b"async", headers={"prefer": "respond-async"})
    asked = await proxy.request("GET", accepted.headers["location"], headers={"prefer": "wait=20"})
    assert asked.content == b"async"


async def test_a_service_may_answer_long_after_everybody_left(stage: Stage) -> None:
    fields = ("idempotency-key", "k")
    left = stage.ask("/items/1", "POST", fields)
    await until(lambda: stage.service.asked)
    left.hang_up()
    await left.end()
    stage.service.reply(stage.service.asked[0], Reply(b"late"))
    stage.service.flush()
    assert (await stage.asked("/items/1", "POST", fields)).body == b"late"
    assert len(stage.service.asked) == 1


async def test_a_wait_outlives_the_connections_it_began_on(
    kafka: Cluster, start: StartProxy, service: StartService, topic: TopicFactory
) -> None:
    requests, replies = topic(name="requests"), topic(name="replies")
    routes = gateway(produce("/", topic=requests, reply_to=replies))
    proxy, silent = start(config=configuration(kafka.bootstrap, routes)), service(requests, lambda _asked: None)
    asking = asyncio.ensure_future(proxy.request("POST", "/", content=b"x"))
    await until(lambda: silent.asked)
    changed = configuration(kafka.bootstrap, routes, **{"client.rack": "another"})
    await asyncio.to_thread(proxy.runtime.configure, changed)
    silent.answer = echo
    assert (await proxy.request("POST", "/", content=b"on the new ones")).content == b"on the new ones"
    silent.reply(silent.asked[0], Reply(b"on the old ones"))
    assert (await asking).content == b"on the old ones"
