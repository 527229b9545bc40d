"""Async: 202 and a location to ask at; what ``prefer`` asks for (the contract, *With reply-to*; D2, D8 to D11)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from kafkaproxy.routing.table import Credentials, GuardConfig
from tests.conformance.conftest import StartProxy, StartService
from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.support.exchange import assert_nobody_waits, until, until_ready
from tests.support.proxy import Proxy, configuration, gateway, produce
from tests.support.service import Reply, Service
from tests.support.tokens import fresh, jwk, options

LOCATION = "/items/${params.id};cid=${correlationId}"
Consume = Callable[[str], list[Consumed]]


class Stage:
    """A proxy with an async and a sync route to one service, which is silent until it is told to answer."""

    def __init__(self, proxy: Proxy, service: Service, requests: str, replies: str) -> None:
        self.proxy = proxy
        self.service = service
        self.requests = requests
        self.replies = replies

    async def put(self, path: str = "/items/1", prefer: str | None = "respond-async", **options: Any) -> httpx.Response:
        fields = {**({} if prefer is None else {"prefer": prefer}), **options.pop("headers", {})}
        return await self.proxy.request("PUT", path, headers=fields, content=b"a body", **options)

    async def get(self, location: str, prefer: str | None = None, method: str = "GET", **fields: str) -> httpx.Response:
        headers = {**({} if prefer is None else {"prefer": prefer}), **fields}
        return await self.proxy.request(method, location, headers=headers)

    async def answer(self, number: int = 0, reply: Reply | None = None) -> None:
        """Answer the request of that number, as soon as it is there."""
        await until(lambda: len(self.service.asked) > number)
        self.service.reply(self.service.asked[number], reply or Reply(b"done"))


@pytest.fixture
def stage(start: StartProxy, service: StartService, topic: TopicFactory) -> Stage:
    requests, replies = topic(name="requests"), topic(2, name="replies")
    both = {"topic": requests, "key": "${params.id}", "reply_to": replies}
    extra = {"location": LOCATION, "x-request": "${correlationId}"}
    proxy = start(produce("/items/{id}", async_=extra, **both), produce("/sync/{id}", timeout=1.0, name="slow", **both))
    return Stage(proxy, service(requests, lambda _asked: None), requests, replies)


@pytest.mark.parametrize(
    "prefer",
    [
        "respond-async",
        "Respond-Async",
        "handling=lenient, respond-async",
        "respond-async, handling=lenient",
        'respond-async; foo="bar"',
        "wait=0, respond-async",
        "respond-async,wait=nonsense",
    ],
)
async def test_respond_async_is_honoured_however_it_is_written(stage: Stage, prefer: str) -> None:  # D9
    response = await stage.put(prefer=prefer)
    assert (response.status_code, response.content) == (202, b"")
    assert response.headers["preference-applied"] == "respond-async"
    assert re.fullmatch(r"/items/1;cid=[0-9a-f-]{36}-[0-9a-f]{32}", response.headers["location"])
    assert response.headers["location"].endswith(response.headers["x-request"])
    assert response.headers["retry-after"] == "1"
    assert response.headers["cache-control"] == "no-store"


async def test_wait_alone_turns_into_202_after_that_time(stage: Stage) -> None:  # D11
    await until_ready(stage.proxy, stage.replies)
    response = await stage.put(prefer="wait=1")
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "wait=1"
    await stage.answer()
    assert (await stage.get(response.headers["location"], "wait=20")).content == b"done"
    assert_nobody_waits(stage.proxy)


async def test_wait_with_respond_async_turns_into_202_too(stage: Stage) -> None:
    await until_ready(stage.proxy, stage.replies)
    response = await stage.put(prefer="respond-async, wait=1")
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async, wait=1"
    assert "location" in response.headers


@pytest.mark.parametrize("prefer", ["wait=20", "respond-async, wait=20"])
async def test_a_reply_within_the_wait_is_the_answer(stage: Stage, prefer: str) -> None:
    response, _ = await asyncio.gather(stage.put(prefer=prefer), stage.answer())
    assert (response.status_code, response.content) == (200, b"done")
    assert response.headers["preference-applied"] == "wait=20"


async def test_without_a_preference_an_async_route_waits_as_a_sync_one(stage: Stage) -> None:
    response, _ = await asyncio.gather(stage.put(prefer=None), stage.answer())
    assert (response.status_code, response.content) == (200, b"done")
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize(("prefer", "seconds"), [(None, "1"), ("wait=2", "2"), ("respond-async, wait=2", "2")])
async def test_a_sync_route_answers_504_in_the_end(stage: Stage, prefer: str | None, seconds: str) -> None:  # D8
    await until_ready(stage.proxy, stage.replies)
    response = await stage.put("/sync/1", prefer)
    assert response.status_code == 504
    problem = response.json()
    assert problem["type"] == "urn:kafkaproxy:problem:no-reply"
    assert problem["route"] == "slow"
    assert f"within {seconds} seconds" in problem["detail"]
    assert "was delivered" in problem["detail"]
    assert_nobody_waits(stage.proxy)


async def test_no_wait_is_longer_than_the_setting(stage: Stage, settings: Any) -> None:
    await until_ready(stage.proxy, stage.replies)
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "MAX_WAIT_SECONDS": 1}
    response = await stage.put(prefer="wait=100")
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "wait=1"
    assert (await stage.put("/sync/1", "wait=100")).status_code == 504


async def test_asking_without_a_wait_is_answered_at_once(stage: Stage) -> None:  # D10
    location = (await stage.put()).headers["location"]
    response = await stage.get(location)
    assert (response.status_code, response.content) == (202, b"")
    assert response.headers["location"] == location
    assert response.headers["x-request"] == location.partition("cid=")[2]
    assert response.headers["retry-after"] == "1"
    assert "preference-applied" not in response.headers


async def test_asking_waits_as_long_as_preferred(stage: Stage) -> None:
    location = (await stage.put()).headers["location"]
    response = await stage.get(location, "wait=1")
    assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=1")
    assert response.headers["location"] == location
    response, _ = await asyncio.gather(stage.get(location, "wait=20"), stage.answer())
    assert (response.status_code, response.content) == (200, b"done")
    assert response.headers["preference-applied"] == "wait=20"
    assert_nobody_waits(stage.proxy)


async def test_many_may_ask_for_one_outcome(stage: Stage) -> None:
    location = (await stage.put()).headers["location"]
    asking = [asyncio.ensure_future(stage.get(location, "wait=20")) for _ in range(20)]
    await until(lambda: stage.proxy.runtime.worker.waiting == 20)
    await stage.answer()
    assert [(await each).content for each in asking] == [b"done"] * 20
    assert (await stage.get(location)).content == b"done"
    assert_nobody_waits(stage.proxy)


async def test_head_is_get_without_a_body(stage: Stage) -> None:
    location = (await stage.put()).headers["location"]
    assert (await stage.get(location, method="HEAD")).status_code == 202
    await stage.answer()
    await stage.get(location, "wait=20")
    response = await stage.get(location, method="HEAD")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "4")


async def test_an_outcome_is_not_kept_by_caches_unless_the_service_says_so(stage: Stage) -> None:
    location = (await stage.put()).headers["location"]
    await stage.answer()
    assert (await stage.get(location, "wait=20")).headers["cache-control"] == "no-store"
    location = (await stage.put("/items/2")).headers["location"]
    await stage.answer(1, Reply(b"", [("Cache-Control", b"max-age=60")]))
    assert (await stage.get(location, "wait=20")).headers.get_list("cache-control") == ["max-age=60"]


async def test_the_location_is_percent_encoded_and_leads_back(stage: Stage, kcat_consume: Consume) -> None:  # D2
    response = await stage.put("/items/a%20b%2Fc%3B%C3%A9%3F", headers={"idempotency-key": "k e/y;é".encode("latin-1")})
    location = response.headers["location"]
    assert location.startswith("/items/a%20b%2Fc%3B%C3%A9%3F;cid=k%20e%2Fy%3B")
    assert location.isascii()
    await stage.answer()
    assert (await stage.get(location, "wait=20")).content == b"done"
    assert [record.key for record in kcat_consume(stage.requests)] == ["a b/c;é?"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_other_methods_at_a_location_are_requests_of_their_own(stage: Stage, method: str, kcat_consume: Consume) -> None:
    location = (await stage.put()).headers["location"]
    before = len(kcat_consume(stage.requests))
    response = await stage.get(location, "respond-async", method=method)
    # The path of a location fits the route's own path too, as in the reference: it is about another item then.
    assert response.status_code == 202
    assert [record.key for record in kcat_consume(stage.requests)][before:] == [location.removeprefix("/items/")]


async def test_get_of_an_item_is_no_request_and_no_location(stage: Stage, kcat_consume: Consume) -> None:
    response = await stage.get("/items/1")
    assert response.status_code == 405
    assert kcat_consume(stage.requests) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda location: location.replace("/items/1;", "/items/2;"), id="of-another-item"),
        pytest.param(lambda location: location[:-17] + "0" + location[-16:], id="tampered-with"),
        pytest.param(lambda _location: "/items/1;cid=1", id="made-up"),
        pytest.param(lambda _location: f"/items/1;cid=key-{'0' * 32}", id="made-up-well"),
        pytest.param(lambda location: location[:-1], id="cut-off"),
    ],
)
async def test_a_location_that_was_never_given_is_404(stage: Stage, change: Callable[[str], str]) -> None:
    location = (await stage.put()).headers["location"]
    await stage.answer()
    assert (await stage.get(location, "wait=20")).status_code == 200
    response = await stage.get(change(location), "wait=20")
    assert response.status_code == 404
    assert response.json()["type"] == "urn:kafkaproxy:problem:no-such-request"


async def test_a_location_answers_only_who_it_was_given_to(
    kafka: Cluster, start: StartProxy, service: StartService, topic: TopicFactory
) -> None:
    requests, replies = topic(name="requests"), topic(name="replies")
    route = produce("/items/{id}", topic=requests, reply_to=replies, async_={"location": LOCATION}, guarded={"jwt": ()})
    credentials = Credentials(guard="jwt", cookies={}, headers={"authorization": "Bearer {credentials}"}, query={})
    config = replace(
        configuration(kafka.bootstrap, gateway(route, credentials=credentials)),
        guards={"jwt": GuardConfig(name="jwt", kind="jwt", options=options(jwk("ES256")))},
    )
    stage = Stage(start(config=config), service(requests), requests, replies)
    alice, bob = (f"Bearer {fresh(sub=name)}" for name in ("alice", "bob"))
    accepted = await stage.put(headers={"authorization": alice})
    location = accepted.headers["location"]
    assert (await stage.get(location, "wait=20", authorization=alice)).content == b"a body"
    assert (await stage.get(location, "wait=20", authorization=bob)).status_code == 404
    assert (await stage.get(location)).status_code == 401
    renewed = f"Bearer {fresh(sub='alice', scope='something else')}"
    assert (await stage.get(location, authorization=renewed)).content == b"a body"


async def test_a_location_that_could_not_be_served_is_not_given(
    start: StartProxy, topic: TopicFactory, kcat_consume: Consume
) -> None:
    requests = topic(name="requests")
    missing = "there-is-no-such-reply-topic"
    proxy = start(produce("/items/{id}", topic=requests, reply_to=missing, async_={"location": LOCATION}))
    for prefer in ("respond-async", "wait=20"):
        response = await proxy.request("PUT", "/items/1", headers={"prefer": prefer}, content=b"x")
        assert response.status_code == 503
        assert response.json()["type"] == "urn:kafkaproxy:problem:topic-unknown-topic"
        assert int(response.headers["retry-after"]) >= 1
    assert kcat_consume(requests) == []
    assert_nobody_waits(proxy)


async def test_the_reply_topic_may_depend_on_the_path(start: StartProxy, service: StartService, topic: TopicFactory) -> None:
    requests, replies = topic(name="requests"), topic(name="replies")
    route = produce(
        "/{to}/items", topic=requests, reply_to="${params.to}", async_={"location": "/${params.to}/items;${correlationId}"}
    )
    proxy = start(route)
    service(requests)
    assert (await proxy.request("POST", f"/{replies}/items", content=b"sync")).content == b"sync"
    accepted = await proxy.request("POST", f"/{replies}/items", content=b"async", headers={"prefer": "respond-async"})
    outcome = await proxy.request("GET", accepted.headers["location"], headers={"prefer": "wait=20"})
    assert outcome.content == b"async"
