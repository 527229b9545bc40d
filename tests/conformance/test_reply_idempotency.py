"""Idempotency: the same request again gets the same reply, wherever it arrives (the contract, *With reply-to*; D7)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from kafkaproxy.routing.table import Credentials, GuardConfig, Route
from tests.conformance.conftest import StartProxy, StartService
from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.support.exchange import Exchange, assert_nobody_waits, until, until_ready
from tests.support.proxy import CLUSTER, Proxy, configuration, gateway, produce
from tests.support.service import Asked, Reply, Service
from tests.support.tokens import fresh, jwk, options

Consume = Callable[[str], list[Consumed]]
KEY = "5cf7a1d5-3772-49ef-86e7-ba6f2c7d7d07"
LOCATION = "/items/${params.id};cid=${correlationId}"


@pytest.fixture
def topics(topic: TopicFactory) -> tuple[str, str]:
    return topic(2, name="requests"), topic(3, name="replies")


@pytest.fixture
def route(topics: tuple[str, str]) -> Route:
    requests, replies = topics
    return produce("/items/{id}", topic=requests, key="${params.id}", reply_to=replies, async_={"location": LOCATION})


@pytest.fixture
def counting(service: StartService, topics: tuple[str, str]) -> Service:
    """A service whose replies tell how often it was asked."""
    numbers = iter(range(1, 1000))
    return service(topics[0], lambda _asked: Reply(b"reply %d" % next(numbers)))


async def put(proxy: Proxy, path: str = "/items/1", key: str | None = KEY, **options: Any) -> httpx.Response:
    headers = {"content-type": "text/plain", **({} if key is None else {"idempotency-key": key}), **options.pop("headers", {})}
    return await proxy.request(options.pop("method", "PUT"), path, headers=headers, **{"content": b"a body", **options})


def correlation_ids(records: list[Consumed]) -> list[str | None]:
    return [record.header("zilla:correlation-id") for record in records]


async def test_a_retry_gets_the_reply_and_produces_nothing(
    start: StartProxy, route: Route, counting: Service, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    proxy = start(route)
    for _ in range(3):
        assert (await put(proxy)).content == b"reply 1"
    assert (await put(proxy, headers={"prefer": "wait=3"})).content == b"reply 1"
    assert len(kcat_consume(topics[0])) == 1


async def test_a_retry_after_a_restart_gets_the_reply(
    start: StartProxy, route: Route, counting: Service, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    first = start(route)
    assert (await put(first)).content == b"reply 1"
    first.runtime.worker.close()
    assert (await put(start(route))).content == b"reply 1"
    assert (await put(start(route, folder="a fresh store"))).content == b"reply 1"
    assert len(kcat_consume(topics[0])) == 1


async def test_a_retry_on_another_host_gets_the_reply_at_once(
    start: StartProxy, route: Route, counting: Service, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    here, there = start(route), start(route, folder="another host")
    for number in range(30):
        key = str(uuid.uuid4())
        first = await put(here, key=key)
        assert (await put(there, key=key)).content == first.content, number
        here, there = there, here
    assert len(kcat_consume(topics[0])) == 30


async def test_an_async_request_is_asked_for_on_another_host(
    start: StartProxy, route: Route, service: StartService, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    here, there = start(route), start(route, folder="another host")
    silent = service(topics[0], lambda _asked: None)
    accepted = await put(here, headers={"prefer": "respond-async"})
    location = accepted.headers["location"]
    assert (await there.request("GET", location)).status_code == 202
    asking = asyncio.ensure_future(there.request("GET", location, headers={"prefer": "wait=30"}))
    await until(lambda: there.runtime.worker.waiting and silent.asked)
    silent.reply(silent.asked[0], Reply(b"done"))
    assert (await asking).content == b"done"
    assert (await put(there)).content == b"done"
    assert len(kcat_consume(topics[0])) == 1


async def test_fields_that_change_from_try_to_try_do_not_make_it_another_request(
    start: StartProxy, route: Route, counting: Service, topics: tuple[str, str], kcat_consume: Consume
) -> None:  # D7
    proxy = start(route)
    tries: list[Mapping[str, str]] = [
        {"authorization": "Bearer one", "date": "Sun, 06 Nov 1994 08:49:37 GMT", "traceparent": "00-1-1-00"},
        {"authorization": "Bearer two", "date": "Sun, 06 Nov 1994 08:49:38 GMT", "traceparent": "00-2-2-00"},
        {"cookie": "session=1", "user-agent": "another", "accept": "text/html", "prefer": "wait=9"},
    ]
    assert [(await put(proxy, headers=each)).content for each in tries] == [b"reply 1"] * 3
    assert len(kcat_consume(topics[0])) == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"content": b"another body"}, id="body"),
        pytest.param({"path": "/items/2"}, id="path"),
        pytest.param({"path": "/items/1?q=1"}, id="query"),
        pytest.param({"method": "POST"}, id="method"),
        pytest.param({"headers": {"content-type": "text/html"}}, id="content-type"),
        pytest.param({"headers": {"if-match": "AQQABAIC/revision=42"}}, id="if-match"),
        pytest.param({"key": "another"}, id="key"),
    ],
)
async def test_what_makes_another_request_is_never_answered_by_a_replay(
    change: dict[str, Any], start: StartProxy, route: Route, counting: Service, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    proxy = start(route)
    assert (await put(proxy)).content == b"reply 1"
    assert (await put(proxy, **change)).content == b"reply 2"
    assert len(set(correlation_ids(kcat_consume(topics[0])))) == 2


async def test_without_a_key_every_request_is_one_of_its_own(
    start: StartProxy, route: Route, counting: Service, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    proxy = start(route)
    assert [(await put(proxy, key=None)).content for _ in range(2)] == [b"reply 1", b"reply 2"]
    records = kcat_consume(topics[0])
    assert len(set(correlation_ids(records))) == 2
    assert not [name for record in records for name, _ in record.headers if name == "idempotency-key"]


async def test_an_error_of_the_service_is_replayed_too(
    start: StartProxy, route: Route, service: StartService, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    service(topics[0], lambda _asked: Reply(b"no", [(":status", b"409")]))
    proxy = start(route)
    assert [(await put(proxy)).status_code for _ in range(2)] == [409, 409]
    assert len(kcat_consume(topics[0])) == 1


@pytest.mark.parametrize("key", ["", "x" * 257])
async def test_a_key_that_cannot_be_used_is_400(
    key: str, start: StartProxy, route: Route, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    response = await put(start(route), key=key)
    assert response.status_code == 400
    assert response.json()["type"] == "urn:kafkaproxy:problem:bad-idempotency-key"
    assert kcat_consume(topics[0]) == []


async def test_concurrent_duplicates_in_one_process_share_one_record(
    start: StartProxy, route: Route, service: StartService, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    proxy, silent = start(route), service(topics[0], lambda _asked: None)
    asking = [asyncio.ensure_future(put(proxy)) for _ in range(10)]
    await until(lambda: proxy.runtime.worker.waiting == 10 and silent.asked)
    late = asyncio.ensure_future(put(proxy, headers={"prefer": "respond-async"}))
    assert (await late).status_code == 202
    silent.reply(silent.asked[0], Reply(b"once"))
    assert [(await each).content for each in asking] == [b"once"] * 10
    assert len(kcat_consume(topics[0])) == 1
    assert_nobody_waits(proxy)


async def test_a_duplicate_goes_on_when_the_first_client_leaves(
    start: StartProxy, route: Route, service: StartService, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    proxy, silent = start(route), service(topics[0], lambda _asked: None)
    fields = {"idempotency-key": KEY}
    first = Exchange(proxy.app, "PUT", "/items/1", fields)
    first.send(b"a body")
    await until(lambda: silent.asked)
    second = Exchange(proxy.app, "PUT", "/items/1", fields)
    second.send(b"a body")
    exchanges = proxy.runtime.worker.cluster(CLUSTER).hub()._exchanges
    await until(lambda: [each.users for each in exchanges.values()] == [2])  # the second has joined the first
    first.hang_up()
    await first.end()
    assert first.messages == []
    silent.reply(silent.asked[0], Reply(b"done"))
    await second.end()
    assert (second.status, second.body) == (200, b"done")
    assert len(kcat_consume(topics[0])) == 1
    assert_nobody_waits(proxy)


async def test_duplicates_on_two_hosts_have_one_correlation_id_and_one_reply(
    start: StartProxy, route: Route, service: StartService, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    hosts = [start(route), start(route, folder="another host")]
    silent = service(topics[0], lambda _asked: None)
    asking = [asyncio.ensure_future(put(each)) for each in hosts]
    await until(lambda: len(silent.asked) == 2)  # at least once, as there is no answer yet
    silent.reply(silent.asked[0], Reply(b"the first"))
    assert [(await each).content for each in asking] == [b"the first"] * 2
    silent.reply(silent.asked[1], Reply(b"too late"))
    assert [(await put(each)).content for each in hosts] == [b"the first"] * 2
    records = kcat_consume(topics[0])
    assert len(records) == 2
    assert len(set(correlation_ids(records))) == 1


async def test_a_retry_after_a_504_asks_again_with_the_same_id(
    start: StartProxy, topics: tuple[str, str], service: StartService, kcat_consume: Consume
) -> None:
    proxy = start(produce("/items/{id}", topic=topics[0], reply_to=topics[1], timeout=1))
    silent = service(topics[0], lambda _asked: None)
    await until_ready(proxy, topics[1])
    given_up = await put(proxy)
    assert given_up.status_code == 504
    assert "Repeat it with the same idempotency key" in given_up.json()["detail"]
    assert (await put(proxy)).status_code == 504
    await until(lambda: len(silent.asked) == 2)
    silent.reply(silent.asked[0], Reply(b"at last"))
    assert (await put(proxy, headers={"prefer": "wait=20"})).content == b"at last"
    records = kcat_consume(topics[0])
    assert len(set(correlation_ids(records))) == 1


async def test_a_504_without_a_key_says_that_one_would_help(
    start: StartProxy, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    proxy = start(produce("/items/{id}", topic=topics[0], reply_to=topics[1], timeout=1))
    await until_ready(proxy, topics[1])
    detail = (await put(proxy, key=None)).json()["detail"]
    assert "With an idempotency key it can be repeated" in detail


@pytest.fixture
def guarded(kafka: Cluster, start: StartProxy, topics: tuple[str, str]) -> Proxy:
    """A proxy whose clients bring a token, in a field or in the query."""
    route = produce("/items/{id}", topic=topics[0], reply_to=topics[1], guarded={"jwt": ()})
    credentials = Credentials(
        guard="jwt", cookies={}, headers={"x-token": "{credentials}"}, query={"access_token": "{credentials}"}
    )
    config = replace(
        configuration(kafka.bootstrap, gateway(route, credentials=credentials)),
        guards={"jwt": GuardConfig(name="jwt", kind="jwt", options=options(jwk("ES256")))},
    )
    return start(config=config)


@pytest.mark.parametrize("place", ["field", "query"])
async def test_a_new_token_of_the_same_client_is_the_same_request(
    place: str, guarded: Proxy, counting: Service, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    tokens = [fresh(sub="alice"), fresh(sub="alice", scope="another")]
    assert tokens[0] != tokens[1]
    for token in tokens:
        if place == "field":
            response = await put(guarded, headers={"x-token": token})
        else:
            response = await put(guarded, f"/items/1?a=1&access_token={token}&b=2")
        assert response.content == b"reply 1"
    [record] = kcat_consume(topics[0])
    assert "eyJ" not in repr(record)
    assert record.header(":path") == ("/items/1" if place == "field" else "/items/1?a=1&b=2")


async def test_another_client_with_the_same_key_and_body_gets_its_own_reply(
    guarded: Proxy, counting: Service, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    alice, bob = ({"x-token": fresh(sub=name)} for name in ("alice", "bob"))
    assert (await put(guarded, headers=alice)).content == b"reply 1"
    assert (await put(guarded, headers=bob)).content == b"reply 2"
    assert (await put(guarded, headers=alice)).content == b"reply 1"
    assert len(set(correlation_ids(kcat_consume(topics[0])))) == 2


async def test_two_processes_of_a_host_answer_for_each_other(
    start: StartProxy, route: Route, service: StartService, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    writer, reader = start(route), start(route)  # one store
    silent = service(topics[0], lambda _asked: None)
    accepted = [await put(each, key=None, headers={"prefer": "respond-async"}) for each in (writer, reader)]
    asking = [
        asyncio.ensure_future(each.request("GET", answer.headers["location"], headers={"prefer": "wait=30"}))
        for each, answer in zip((reader, writer), accepted, strict=True)
    ]
    await until(lambda: writer.runtime.worker.waiting and reader.runtime.worker.waiting and len(silent.asked) == 2)
    for asked in silent.asked:
        silent.reply(asked, Reply(b"for " + asked.header("zilla:correlation-id")))
    answers = [(await each).text for each in asking]
    assert answers == ["for " + answer.headers["location"].partition("cid=")[2] for answer in accepted]


async def test_when_the_process_that_reads_ends_another_of_the_host_goes_on(
    start: StartProxy, route: Route, counting: Service, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    writer, reader = start(route), start(route)
    assert (await put(writer, key="one")).content == b"reply 1"
    asked: list[Asked] = counting.asked
    counting.answer = lambda _asked: None
    waiting = asyncio.ensure_future(put(reader, key="two", headers={"prefer": "wait=30"}))
    await until(lambda: len(asked) == 2)
    await asyncio.get_running_loop().run_in_executor(None, writer.runtime.worker.close)
    counting.reply(asked[1], Reply(b"after all"))
    assert (await waiting).content == b"after all"
    assert (await put(reader, key="one")).content == b"reply 1"
    assert len(kcat_consume(topics[0])) == 2


async def test_a_reply_that_came_while_nobody_ran_is_found(
    start: StartProxy, route: Route, service: StartService, topics: tuple[str, str], kcat_consume: Consume
) -> None:
    first, silent = start(route), service(topics[0], lambda _asked: None)
    accepted = await put(first, headers={"prefer": "respond-async"})
    await until(lambda: silent.asked)
    first.runtime.worker.close()
    silent.reply(silent.asked[0], Reply(b"in between"))
    silent.flush()
    second = start(route)
    asking = [put(second), second.request("GET", accepted.headers["location"], headers={"prefer": "wait=30"})]
    assert [each.content for each in await asyncio.gather(*asking)] == [b"in between"] * 2
    assert len(kcat_consume(topics[0])) == 1
