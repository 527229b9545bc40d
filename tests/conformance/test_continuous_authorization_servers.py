"""Continuous authorization on real servers: twenty streams on one HTTP/2 connection, and two processes that share a cache."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conformance.test_stream_servers import HTTP2, Served, opened, running
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.kafka.certificates import Certificates, make_certificates
from tests.support.guarded import bearer
from tests.support.http2 import Exchange, Http2Connection, connected
from tests.support.streams import EventStream
from tests.support.tokens import token

STREAMS: Final = 20
LIFE: Final = 10.0
"""Seconds that a token is good for. The site challenges five seconds before the end."""
CHALLENGE: Final = "application/x-challenge-response"


def signed(end: float, **claims: Any) -> dict[str, str]:
    """Return the field with a token that is good until then."""
    return bearer(token("HS256", exp=end, **claims))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def site(
    server: str, protocol: str, folder: Path, kafka: Cluster, certificates: Certificates, cache: Path
) -> AbstractContextManager[Served]:
    """Serve the guarded site; sites with the same cache know each other's sessions."""
    folder.mkdir(exist_ok=True)
    application, env = "tests.support.guarded_site:application", {"GUARDED_CACHE": str(cache)}
    return running(server, protocol, folder, kafka, certificates, application=application, env=env)


@pytest.fixture(scope="module", params=sorted(HTTP2))
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kafka: Cluster, certificates: Certificates
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("guarded")
    with site(request.param, "http2", folder, kafka, certificates, folder / "cache") as one:
        yield one


def connection_to(served: Served) -> Any:
    assert isinstance(served.verify, ssl.SSLContext)
    return connected(served.url, served.verify)


async def listen(connection: Http2Connection, topic: str, end: float) -> list[Exchange]:
    """Open twenty streams, and wait for the challenge."""
    streams = [await connection.begin("GET", f"/news/{topic}", signed(end)) for _ in range(STREAMS)]
    assert [each.status for each in streams] == [200] * STREAMS
    while not challenges(streams):
        await connection.change()
    return streams


def challenges(streams: Sequence[Exchange]) -> list[str]:
    return [data for each in streams for data in each.data("challenge")]


def session_of(challenge: str) -> dict[str, str]:
    """Return the field that names the challenge's session."""
    told = json.loads(challenge)
    assert told["method"] == "POST"
    assert told["headers"].keys() == {"content-type", "x-challenge-session"}
    assert told["headers"]["content-type"] == CHALLENGE
    return {"x-challenge-session": told["headers"]["x-challenge-session"]}


async def answer(connection: Http2Connection, topic: str, headers: dict[str, str]) -> Exchange:
    return await connection.request("POST", f"/news/{topic}", {"content-type": CHALLENGE, **headers})


async def see_all_end(connection: Http2Connection, streams: Sequence[Exchange], end: float) -> None:
    """See all streams end cleanly, none before the token does, and nothing come but the one challenge."""
    while not any(each.ended or each.broken for each in streams):
        await connection.change()
    assert time.time() >= end
    while not all(each.ended or each.broken for each in streams):
        await connection.change()
    assert {each.broken for each in streams} == {""}
    assert [event.type for each in streams for event in each.events] == ["challenge"]


async def kept(served: Served, kafka: Cluster, name: str) -> None:
    """One answer keeps all streams of a connection."""
    async with connection_to(served) as connection:
        end = time.time() + LIFE
        streams = await listen(connection, name, end)
        assert (await answer(connection, name, signed(end + 120))).status == 204
        await asyncio.sleep(max(end + 1 - time.time(), 0))
        kafka.produce(name, "still here")
        while not all(each.data("message") for each in streams):
            await connection.change()
        assert [each.data("message") for each in streams] == [["still here"]] * STREAMS
        assert len(challenges(streams)) == 1
        assert {(each.ended, each.broken) for each in streams} == {(False, "")}


_NOT_THE_SAME: Final[dict[str, dict[str, Any]]] = {
    "another subject": {"sub": "mallory"},
    "no subject": {"sub": None},
    "fewer roles": {"scope": "read:stream"},
    "other roles": {"scope": "read:stream admin"},
}


async def not_kept(served: Served, name: str) -> None:
    """Without a good answer all streams of a connection end. Each bad one is on a connection of its own, at the same time: with
    the session's id, and without."""

    async def no_answer() -> None:
        async with connection_to(served) as connection:
            end = time.time() + LIFE
            await see_all_end(connection, await listen(connection, name, end), end)

    async def from_another_connection() -> None:
        async with connection_to(served) as connection:
            end = time.time() + LIFE
            streams = await listen(connection, name, end)
            async with connection_to(served) as another:  # not before: servers close a connection that is idle
                assert (await answer(another, name, signed(end + 120))).status == 403
            await see_all_end(connection, streams, end)

    async def refused(claims: dict[str, Any]) -> None:
        async with connection_to(served) as connection:
            end = time.time() + LIFE
            streams = await listen(connection, name, end)
            for headers in ({}, session_of(challenges(streams)[0])):
                response = await answer(connection, name, {**signed(end + 120, **claims), **headers})
                assert (response.status, json.loads(response.body)["type"]) == (403, "urn:kafkaproxy:problem:challenge-refused")
                assert (await answer(connection, name, {**signed(end - 60), **headers})).status == 401
                assert (await answer(connection, name, headers)).status == 401
            await see_all_end(connection, streams, end)

    await asyncio.gather(no_answer(), from_another_connection(), *map(refused, _NOT_THE_SAME.values()))


async def test_one_answer_keeps_all_streams_of_a_connection_and_without_a_good_one_they_end(
    served: Served, kafka: Cluster, topic: TopicFactory
) -> None:
    await asyncio.gather(kept(served, kafka, topic()), not_kept(served, topic()))  # together: each lasts as long as a token
    await served.until_count(0)


async def test_another_process_takes_the_answer_through_the_cache(
    kafka: Cluster, topic: TopicFactory, certificates: Certificates, tmp_path: Path
) -> None:  # D26
    name, cache = topic(), tmp_path / "cache"
    with (
        site("granian", "http1", tmp_path / "one", kafka, certificates, cache) as one,
        site("hypercorn", "http1", tmp_path / "two", kafka, certificates, cache) as two,
    ):
        end = time.time() + LIFE
        async with one.client() as client, two.client() as elsewhere:
            client.headers.update(signed(end))
            async with opened(client, f"/news/{name}") as kept, opened(client, f"/news/{name}") as lost:
                own, others = session_of(await next_challenge(kept)), session_of(await next_challenge(lost))
                for status, headers in (
                    (403, {**signed(end + 120, sub="mallory"), **others}),
                    (403, {**signed(end + 120, scope="read:stream"), **others}),
                    (403, signed(end + 120)),  # no connection to go by
                    (204, {**signed(end + 120), **own}),
                ):
                    response = await elsewhere.post(f"/news/{name}", headers={"content-type": CHALLENGE, **headers})
                    assert response.status_code == status
                assert await lost.rest() == []
                assert time.time() >= end
                kafka.produce(name, "renewed elsewhere")
                assert (await kept.next()).data == "renewed elsewhere"


async def next_challenge(stream: EventStream) -> str:
    event = await stream.next()
    assert event.type == "challenge"
    return event.data
