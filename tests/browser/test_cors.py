"""Two origins in Chromium: what a page of another origin may do, and what it sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.async_api import Page

from kafkaproxy.routing.table import AccessControl, Credentials, GuardConfig
from tests.browser.conftest import OpenPage
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce, stream
from tests.support.servers import free_port
from tests.support.tokens import fresh, jwk, options

pytestmark = pytest.mark.browser

# Runs in the page: what a script there can see of an answer, or that the browser kept it from the script.
_FETCH = """async ([url, init]) => {
    try {
        const response = await fetch(url, init);
        return {status: response.status, text: await response.text(), fields: Object.fromEntries(response.headers)};
    } catch (error) {
        return {blocked: error.name};
    }
}"""
_CHALLENGED = """async ([url, end, fresh, body]) => {
    const events = new EventSource(url);
    const next = type => new Promise(resolve => events.addEventListener(type, resolve, {once: true}));
    const challenge = JSON.parse((await next("challenge")).data);
    challenge.headers.authorization = "Bearer " + fresh;
    const answer = await fetch(url, challenge);
    const message = next("message");
    await new Promise(resolve => setTimeout(resolve, end + 1000 - Date.now()));
    await fetch(body, {method: "PUT", headers: {authorization: "Bearer " + fresh}, body: "after the challenge"});
    const data = (await message).data;
    events.close();
    return {status: answer.status, data};
}"""
_UNANSWERED = """async url => {
    const events = new EventSource(url);
    const seen = [];
    events.addEventListener("challenge", () => seen.push("challenge"));
    await new Promise(resolve => {
        events.onerror = () => {
            seen.push(["connecting", "open", "closed"][events.readyState]);
            if (events.readyState === EventSource.CLOSED) resolve();
        };
    });
    return {seen, ended: Date.now()};
}"""
_FIRST_EVENT = """async url => {
    const events = new EventSource(url);
    const data = await new Promise(resolve => { events.onmessage = event => resolve(event.data); });
    events.close();
    return data;
}"""


@dataclass
class Sites:
    """The proxy, and the pages of two other origins."""

    api: str
    shop: str
    """The origin that the lists name."""
    evil: str
    topic: str


async def _blank(scope: Any, _receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<!doctype html><link rel=icon href=data:><title>elsewhere</title>"})


@contextlib.asynccontextmanager
async def _served(application: Any, port: int) -> AsyncIterator[str]:
    """Serve in this loop until the block ends."""
    server = uvicorn.Server(uvicorn.Config(application, port=port, lifespan="off", log_level="warning", ws="none"))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has nothing to wait for
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        await serving


@pytest.fixture
async def sites(kafka: Cluster, topic: TopicFactory, tmp_path: Path) -> AsyncIterator[Sites]:
    api, shop, evil = free_port(), free_port(), free_port()
    listed = frozenset({f"http://127.0.0.1:{shop}"})
    policies = {
        "listed": AccessControl(policy="cross-origin", allow_origins=listed, allow_headers=frozenset({"x-api-key"})),
        "any": AccessControl(policy="cross-origin"),
        "cookies": AccessControl(policy="cross-origin", allow_origins=listed, allow_credentials=True),
        "same": AccessControl(policy="same-origin"),
        "challenged": AccessControl(policy="cross-origin", allow_origins=listed, allow_headers=frozenset({"authorization"})),
    }
    name = topic(name="notes", config={"cleanup.policy": "compact"})
    kafka.produce(name, '"hello"', key="1")
    places = Credentials(
        guard="g",
        cookies={"access_token": "{credentials}"},
        headers={"authorization": "Bearer {credentials}"},
        query={"access_token": "{credentials}"},
    )
    gateways = [
        gateway(
            produce(f"/{policy}/notes/{{id}}", topic=name, key="${params.id}"),
            fetch(f"/{policy}/notes/{{id}}", topic=name, filters=[{"key": "${params.id}"}]),
            fetch(f"/{policy}/mine", topic=name, filters=[{"key": "1"}], guarded={"g": []}, name="mine"),
            stream(f"/{policy}/events", topic=name),
            stream(f"/{policy}/guarded", topic=name, guarded={"g": []}, name="guarded", start="latest"),
            name=policy,
            access_control=control,
            credentials=places,
        )
        for policy, control in policies.items()
    ]
    guards = {"g": GuardConfig(name="g", kind="jwt", options=options(jwk("ES256"), challenge=3600))}
    proxy = Proxy(tmp_path, replace(configuration(kafka.bootstrap, *gateways), guards=guards))
    async with _served(proxy.app, api) as one, _served(_blank, shop) as two, _served(_blank, evil) as three:
        yield Sites(one, two, three, name)
    proxy.close()


async def _ask(page: Page, url: str, **init: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await page.evaluate(_FETCH, [url, init])
    return answer


async def test_a_listed_origin_reads_writes_and_sees_the_fields(sites: Sites, open_page: OpenPage) -> None:
    page = await open_page(sites.shop)
    read = await _ask(page, f"{sites.api}/listed/notes/1", headers={"x-api-key": "1"})
    assert (read["status"], read["text"]) == (200, '"hello"')
    assert read["fields"]["etag"]
    assert (await _ask(page, f"{sites.api}/listed/notes/2", method="PUT", body="x"))["status"] == 204
    again = await _ask(page, f"{sites.api}/any/notes/1", headers={"if-none-match": read["fields"]["etag"]})
    assert again["status"] in {200, 304}
    missing = await _ask(page, f"{sites.api}/listed/notes/missing")
    assert json.loads(missing["text"])["status"] == 404


async def test_what_is_refused_never_happens(sites: Sites, open_page: OpenPage, kafka: Cluster) -> None:
    page = await open_page(sites.evil, blocked=True)
    for policy in ("listed", "cookies", "same"):
        for init in (
            {},
            {"mode": "no-cors"},
            {"method": "PUT", "body": "evil"},
            {"method": "POST", "body": "evil"},
            {"method": "POST", "body": "evil", "mode": "no-cors"},
            {"method": "DELETE", "credentials": "include"},
        ):
            answer = await _ask(page, f"{sites.api}/{policy}/notes/1", **init)
            assert answer == {"blocked": "TypeError"} or (answer["status"], answer["text"]) == (0, "")
    records = kafka.consume(sites.topic)
    assert [record.value for record in records] == ['"hello"']


async def test_a_field_that_is_not_listed_is_refused_by_the_preflight(sites: Sites, open_page: OpenPage) -> None:
    page = await open_page(sites.shop, blocked=True)
    url = f"{sites.api}/listed/notes/1"
    assert (await _ask(page, url, headers={"x-api-key": "1", "x-other": "2"})) == {"blocked": "TypeError"}
    assert (await _ask(page, url, headers={"x-api-key": "1"}))["status"] == 200


async def test_a_cookie_counts_where_credentials_are_allowed(sites: Sites, open_page: OpenPage) -> None:
    page = await open_page(sites.shop, blocked=True)
    await page.context.add_cookies([{"name": "access_token", "value": fresh(), "url": sites.api}])
    mine = f"{sites.api}/cookies/mine"
    assert (await _ask(page, mine, credentials="include"))["text"] == '"hello"'
    assert (await _ask(page, mine, credentials="omit"))["status"] == 401
    assert (await _ask(page, f"{sites.api}/any/mine", credentials="include")) == {"blocked": "TypeError"}


async def test_a_bearer_gets_through_the_star(sites: Sites, open_page: OpenPage) -> None:
    page = await open_page(sites.evil)
    mine = f"{sites.api}/any/mine"
    assert (await _ask(page, mine))["status"] == 401
    answer = await _ask(page, mine, headers={"authorization": f"Bearer {fresh()}", "x-anything": "1"})
    assert answer["text"] == '"hello"'
    assert "etag" in answer["fields"]


async def test_an_event_source_reads_a_stream_of_another_origin(sites: Sites, open_page: OpenPage) -> None:
    page = await open_page(sites.shop)
    assert await page.evaluate(_FIRST_EVENT, f"{sites.api}/listed/events") == '"hello"'


async def test_a_challenge_is_answered_from_another_origin(sites: Sites, open_page: OpenPage) -> None:
    page = await open_page(sites.shop)
    end = time.time() + 12
    url = f"{sites.api}/challenged/guarded?access_token={fresh(exp=end)}"
    later, write = fresh(exp=time.time() + 7200), f"{sites.api}/challenged/notes/9"
    answer = await asyncio.wait_for(page.evaluate(_CHALLENGED, [url, end * 1000, later, write]), 60)
    assert answer == {"status": 204, "data": "after the challenge"}


async def test_a_challenge_that_nobody_answers_ends_the_stream_for_good(sites: Sites, open_page: OpenPage) -> None:
    page = await open_page(sites.shop)
    end = time.time() + 6
    answer = await asyncio.wait_for(
        page.evaluate(_UNANSWERED, f"{sites.api}/challenged/guarded?access_token={fresh(exp=end)}"), 60
    )
    assert answer["seen"] == ["challenge", "connecting", "closed"]  # it reconnects by itself, and is 401
    assert answer["ended"] >= end * 1000
