"""Streams and their credentials (the contract, *Continuous authorization*), on real Kafka."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from kafkaproxy.routing.table import GuardConfig
from kafkaproxy.streaming.catch_up import CatchUpReader
from kafkaproxy.streaming.tail import StreamTail
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.guarded import EVERYWHERE
from tests.support.proxy import Proxy, configuration, gateway, stream
from tests.support.streams import Event, EventStream, asgi_stream

SECRET = b"a secret of the tests, long enough for SHA-256"
KEY = {"kty": "oct", "kid": "k", "alg": "HS256", "k": base64.urlsafe_b64encode(SECRET).decode().rstrip("=")}
PLACES = ("cookie", "header", "query")
CHALLENGE = "application/x-challenge-response"
OPTIONS = {"issuer": "https://auth.example", "audience": "https://api.example", "keys": [KEY], "challenge": 2}


def token(seconds: float, *, sub: str | None = "alice", scope: str = "read write", **more: Any) -> str:
    claims: dict[str, Any] = {
        "iss": OPTIONS["issuer"],
        "aud": OPTIONS["audience"],
        "exp": time.time() + seconds,
        "scope": scope,
        **({} if sub is None else {"sub": sub}),
        **more,
    }
    return jwt.encode(claims, SECRET, algorithm="HS256", headers={"kid": "k"})


def bearer(seconds: float, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(seconds, **claims)}"}


@pytest.fixture
def news(topic: TopicFactory) -> str:
    return topic(name="news")


def started(kafka: Cluster, news: str, folder: Path) -> Proxy:
    routes = gateway(
        stream("/news", topic=news, guarded={"jwt": ["read"]}),
        credentials=replace(EVERYWHERE, guard="jwt"),
    )
    guards = {"jwt": GuardConfig(name="jwt", kind="jwt", options=OPTIONS)}
    return Proxy(folder, replace(configuration(kafka.bootstrap, routes), guards=guards))


@pytest.fixture
def proxy(kafka: Cluster, news: str, tmp_path: Path) -> Iterator[Proxy]:
    running = started(kafka, news, tmp_path / "one")
    yield running
    running.close()


async def challenge(events: EventStream) -> Event:
    while (event := await events.next()).type != "challenge":
        pass
    return event


def session_of(event: Event) -> dict[str, str]:
    data = json.loads(event.data)
    assert data["method"] == "POST"
    assert data["headers"]["content-type"] == CHALLENGE
    headers: dict[str, str] = data["headers"]
    return headers


async def answer(proxy: Proxy, headers: dict[str, str]) -> httpx.Response:
    return await proxy.request("POST", "/news", headers=headers)


async def test_a_stream_without_a_credential_is_401_and_without_the_role_403(proxy: Proxy) -> None:
    assert (await proxy.request("GET", "/news")).status_code == 401
    assert (await proxy.request("GET", "/news", headers=bearer(60, scope="write"))).status_code == 403


async def test_an_answered_challenge_keeps_the_stream(proxy: Proxy, kafka: Cluster, news: str) -> None:
    async with asgi_stream(proxy.app, "/news", headers=bearer(4)) as events:
        headers = session_of(await challenge(events))
        first_end = time.time() + 2
        assert (await answer(proxy, {**headers, **bearer(60)})).status_code == 204
        assert await events.is_quiet(max(first_end + 1 - time.time(), 0))
        kafka.produce(news, "still here")
        assert (await events.next()).data == "still here"


async def _renewed(proxy: Proxy, kafka: Cluster, news: str, place: str) -> None:
    """Open a stream with a credential in that place, renew it there, and see the stream outlive the first."""

    def brought(seconds: float) -> tuple[dict[str, str], str]:
        match place:
            case "cookie":
                return {"cookie": f"a=1; access_token={token(seconds)}; b=2"}, ""
            case "header":
                return bearer(seconds), ""
            case _:
                return {}, f"access_token={token(seconds)}&a=1"

    headers, query = brought(4)
    end = time.time() + 4
    async with asgi_stream(proxy.app, "/news", headers=headers, query=query) as events:
        asked = session_of(await challenge(events))
        fresh, parameters = brought(60)
        response = await proxy.request("POST", f"/news?{parameters}", headers={**asked, **fresh})
        assert (response.status_code, response.content) == (204, b"")
        await asyncio.sleep(max(end + 0.5 - time.time(), 0))
        kafka.produce(news, place)
        while (event := await events.next()).data != place:
            assert event.data in PLACES


async def test_rows_challenge_and_reauthorize_credentials(proxy: Proxy, kafka: Cluster, news: str) -> None:
    await asyncio.gather(*(_renewed(proxy, kafka, news, place) for place in PLACES))  # together: each takes a token's life


async def test_a_field_outranks_the_token_that_an_event_source_left_in_its_address(proxy: Proxy) -> None:
    old = f"access_token={token(4)}"
    async with asgi_stream(proxy.app, "/news", query=old) as events:
        asked = session_of(await challenge(events))
        assert (await proxy.request("POST", f"/news?{old}", headers=asked)).status_code == 403
        assert (await proxy.request("POST", f"/news?{old}", headers={**asked, **bearer(60)})).status_code == 204


async def test_who_is_moved_to_another_tenant_does_not_keep_the_stream_of_the_old_one(
    kafka: Cluster, news: str, tmp_path: Path
) -> None:
    own = [{"headers": {"tenant": "${guarded['jwt'].attributes.tenant}"}}]
    routes = gateway(stream("/own", topic=news, filters=own, guarded={"jwt": []}), credentials=replace(EVERYWHERE, guard="jwt"))
    options = {**OPTIONS, "attributes": {"tenant": "tenant", "mail": "email"}}
    guards = {"jwt": GuardConfig(name="jwt", kind="jwt", options=options)}
    proxy = Proxy(tmp_path / "own", replace(configuration(kafka.bootstrap, routes), guards=guards))
    try:
        async with asgi_stream(proxy.app, "/own", headers=bearer(4, tenant="one", email="a")) as events:
            asked = session_of(await challenge(events))
            for tenant, status in (("two", 403), (None, 403), ("one", 204)):
                fresh = bearer(60, tenant=tenant, email="b")
                assert (await proxy.request("POST", "/own", headers={**asked, **fresh})).status_code == status
    finally:
        proxy.close()


async def test_an_unanswered_stream_ends_and_nothing_is_sent_after_that(proxy: Proxy, kafka: Cluster, news: str) -> None:
    async with asgi_stream(proxy.app, "/news", headers=bearer(3)) as events:
        await challenge(events)
        assert await events.rest() == []
        kafka.produce(news, "too late")
        assert not await events.more()
    assert len(proxy.runtime.streams) == 0


async def test_a_client_without_identity_is_not_challenged_and_just_ends(proxy: Proxy) -> None:
    async with asgi_stream(proxy.app, "/news", headers=bearer(2, sub=None)) as events:
        assert [event.type for event in await events.rest()] == []


async def test_an_answer_that_proves_too_little_changes_nothing(proxy: Proxy) -> None:  # D25
    async def refused(credential: dict[str, str], status: int) -> None:
        async with asgi_stream(proxy.app, "/news", headers=bearer(4)) as events:
            headers = session_of(await challenge(events))
            assert (await answer(proxy, {**headers, **credential})).status_code == status
            assert await events.rest() == []

    too_little = [
        (bearer(60, sub="mallory"), 403),
        (bearer(60, scope="read"), 403),
        (bearer(3.5), 403),  # good still, but it ends before the stream's own
        (bearer(-10), 401),
        ({}, 401),
    ]
    await asyncio.gather(*(refused(*each) for each in too_little))  # together, as above


async def test_a_forged_session_is_refused(proxy: Proxy) -> None:
    response = await answer(proxy, {"content-type": CHALLENGE, "x-challenge-session": "forged:id", **bearer(60)})
    assert response.status_code == 403


async def test_the_answer_may_arrive_at_another_instance(
    proxy: Proxy, kafka: Cluster, news: str, tmp_path: Path
) -> None:  # D26
    other = started(kafka, news, tmp_path / "two")
    try:
        async with asgi_stream(proxy.app, "/news", headers=bearer(4)) as events:
            headers = session_of(await challenge(events))
            assert (await answer(other, {**headers, **bearer(60)})).status_code == 204
            assert await events.is_quiet(3)
            kafka.produce(news, "renewed elsewhere")
            assert (await events.next()).data == "renewed elsewhere"
    finally:
        other.close()


@pytest.mark.parametrize("way", ["holds nothing for it", "is read for ever", "cannot be read"])
async def test_a_long_way_to_the_live_end_is_challenged_and_ends_in_time(
    proxy: Proxy, way: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "HEARTBEAT_SECONDS": 600}
    async with asgi_stream(proxy.app, "/news", headers=bearer(60)):
        pass  # from here on nothing is waited for before the stream begins

    async def read(_cursor: CatchUpReader, _tail: StreamTail) -> bytes | None:
        await asyncio.sleep(60 if way == "is read for ever" else 0.01)
        return None if way == "cannot be read" else b""

    monkeypatch.setattr(CatchUpReader, "read", read)
    monkeypatch.setattr(CatchUpReader, "at", lambda _cursor, _tail: False)
    async with asgi_stream(proxy.app, "/news", headers=bearer(2.3)) as events:
        await challenge(events)
        assert await events.rest() == []
    assert len(proxy.runtime.streams) == 0
