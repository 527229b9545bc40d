"""Ways around guards and out of them: spellings of paths, keys that are not there, and where a credential could end up."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from kafkaproxy.metrics import render
from kafkaproxy.routing.table import AccessControl, GuardConfig
from tests.conformance.conftest import Begin
from tests.kafka import Consumed
from tests.support.guarded import EVERYWHERE, PLAIN, ask, bearer, guarded_by, items, under
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce, stream
from tests.support.tokens import fresh, jwk, key_server, options

Consume = Callable[[str], list[Consumed]]


class TestKeysThatComeAndGo:
    """A guard whose keys are at a URL."""

    async def test_while_there_are_no_keys_it_is_503_and_then_it_works(self, begin: Begin, topics: dict[str, str]) -> None:
        with key_server() as server:
            server.say(b"not now", 503)
            proxy = begin(
                gateway(items(topics, guarded={"g": []}), credentials=EVERYWHERE),
                guards={"g": {"kind": "jwt", "options": options(keys=server.url)}},
            )
            response = await ask(proxy, "header", fresh())
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            assert "www-authenticate" not in response.headers
            assert (await proxy.request("GET", "/items/1")).status_code == 401
            assert (await ask(proxy, "header", "rubbish")).status_code == 401
            server.serve(jwk("ES256"))
            for _ in range(200):  # the location is given a rest of a second after its first failure
                response = await ask(proxy, "header", fresh())
                if response.status_code != 503:
                    break
                await asyncio.sleep(0.1)
            assert response.text == "apple"

    async def test_a_location_that_hangs_holds_nobody_else_up(self, begin: Begin, topics: dict[str, str]) -> None:
        with key_server() as server:
            hung_up = threading.Event()
            server.answer = lambda _request: hung_up.wait(60)
            proxy = begin(
                gateway(
                    items(topics, guarded={"g": []}),
                    items(topics, "/open/{id}", name="open"),
                    credentials=EVERYWHERE,
                ),
                gateway(items(topics, "/public/{id}"), name="public"),
                guards={"g": {"kind": "jwt", "options": options(keys=server.url, timeout=60)}},
            )
            waiting = asyncio.ensure_future(ask(proxy, "header", fresh()))
            await asyncio.sleep(0.05)
            assert (await proxy.request("GET", "/public/1")).text == "apple"
            assert (await proxy.request("GET", "/open/1")).text == "apple"
            assert not waiting.done()
            hung_up.set()
            assert (await waiting).status_code == 503

    async def test_a_change_of_something_else_keeps_keys_and_verified_tokens(
        self, begin: Begin, topics: dict[str, str]
    ) -> None:
        with key_server(jwk("ES256")) as server:
            proxy = begin(
                gateway(items(topics, guarded={"g": []}), credentials=EVERYWHERE),
                guards={"g": {"kind": "jwt", "options": options(keys=server.url)}},
            )
            good = fresh()
            assert (await ask(proxy, "header", good)).status_code == 200
            assert proxy.runtime.table is not None
            proxy.runtime.configure(replace(proxy.runtime.table.configuration, version=2))
            assert (await ask(proxy, "header", good)).status_code == 200
            assert len(server.asked) == 1
            changed = GuardConfig(name="g", kind="jwt", options=options(keys=server.url, audience="another"))
            proxy.runtime.configure(replace(proxy.runtime.table.configuration, version=3, guards={"g": changed}))
            assert (await ask(proxy, "header", good)).status_code == 401


_TRICKS = [
    "/admin/1",
    "/public/../admin/1",
    "/public/%2e%2e/admin/1",
    "/public/%2E%2e%2fadmin/1",
    "/public/..%2fadmin/1",
    "/public/%252e%252e/admin/1",
    "/public/..;/admin/1",
    "/./admin/1",
    "//admin/1",
    "/admin//1",
    "/admin/./1",
    "/admin%2f1",
    "/admin%2F1",
    "/%61dmin/1",
    "/%61%64%6d%69%6e/1",
    "/Admin/1",
    "/ADMIN/1",
    "/admin/1/",
    "/admin/1%00",
    "/admin/1%00.html",
    "/%00/admin/1",
    "/admin\\1",
    "/admin/1;jsessionid=1",
    "/admin/%31",
    "/admin/%2531",
    "/admin/1%20",
    "/admin/1?access_token=",
    "/admin/1#",
    "/public/..%c0%afadmin/1",
    "/public/%u002e%u002e/admin/1",
]


@pytest.mark.parametrize("path", _TRICKS)
async def test_no_spelling_of_a_path_leads_around_a_guard(begin: Begin, topics: dict[str, str], path: str) -> None:
    guarded = under("admin", "/admin/*", items(topics, "/admin/{id}", name="admin"), guarded=guarded_by("g"))
    public = under("public", "/public/*", fetch("/public/{id}", topic=topics["items"], filters=[{"key": "2"}], name="public"))
    rest = under("rest", "*", stream("/events", topic=topics["items"]))
    proxy = begin(replace(gateway(credentials=EVERYWHERE), entries=(guarded, public, rest)))
    status, body = await _raw(proxy, path)
    assert b"apple" not in body
    assert status in {401, 404, 299}  # refused, no such record, or none of our paths at all


async def _raw(proxy: Proxy, target: str) -> tuple[int, bytes]:
    """Send a path as it stands: a client library would tidy it up."""
    path, _, query = target.partition("?")
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "https",
        "path": httpx.URL(f"https://x/{path}").path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"example.com:9090")],
        "http_version": "1.1",
        "client": ("192.0.2.1", 5000),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await proxy.app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def test_a_preflight_needs_no_kafka(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    policy = AccessControl(policy="cross-origin", allow_credentials=True)
    routes = gateway(produce("/items", topic="items"), stream("/events", topic="items"), access_control=policy)
    proxy = Proxy(tmp_path, configuration(f"127.0.0.1:{port}", routes))
    try:
        for path, method in (("/items", "POST"), ("/events", "GET")):
            asked = {"origin": "https://a.example", "access-control-request-method": method}
            response = await proxy.request("OPTIONS", path, headers=asked)
            assert (response.status_code, response.headers["access-control-allow-methods"]) == (204, method)
    finally:
        proxy.close()


def _everything_in(folder: Path) -> bytes:
    return b"".join(each.read_bytes() for each in folder.rglob("*") if each.is_file())


class TestACredentialStaysWhereItIs:
    """Neither a record, nor a log line, nor an answer, nor a metric, nor the store holds any part of it."""

    async def test_it_is_nowhere(
        self,
        begin: Begin,
        topics: dict[str, str],
        kcat_consume: Consume,
        caplog: pytest.LogCaptureFixture,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.WARNING, "httpx")  # the test's own client says what it asks for
        caplog.set_level(logging.DEBUG)
        places = replace(EVERYWHERE, headers={"x-token": PLAIN, "authorization": "Bearer {credentials}"})
        ask = produce(
            "/ask/{id}",
            topic=topics["commands"],
            key="${params.id}",
            reply_to=topics["replies"],
            timeout=0.2,
            name="ask",
        )
        later = produce(
            "/later/{id}",
            topic=topics["commands"],
            key="${params.id}",
            reply_to=topics["replies"],
            async_={"location": "/later/${params.id};cid=${correlationId}"},
            name="later",
        )
        routes = [
            produce("PUT /items/{id}", topic=topics["items"], key="${params.id}", guarded={"g": []}, name="put"),
            items(topics, guarded={"g": []}),
            items(topics, "/secret/{id}", guarded={"g": ["admin"]}, name="secret"),
            items(topics, "/own/{id}", name="open"),
            replace(ask, guarded=guarded_by("g")),
            replace(later, guarded=guarded_by("g")),
            stream("/events", topic=topics["items"], guarded={"g": ["admin"]}, name="events"),
            produce("/missing", topic="there-is-no-such-topic", guarded={"g": []}, name="missing"),
        ]
        proxy = begin(gateway(*routes, credentials=places))
        credentials = [fresh(), fresh(exp=time.time() - 5), fresh()[:-6] + "AAAAAA", "hunter2-hunter2-hunter2"]
        answers: list[str] = []
        for credential in credentials:
            for where in (
                {"headers": bearer(credential)},
                {"headers": {"x-token": credential}},
                {"headers": {"cookie": f"access_token={credential}; other={credential}", "x-csrftoken": credential}},
                {"headers": {"proxy-authorization": f"Bearer {credential}"}},
                {"query": f"access_token={credential}"},
                {"query": f"a=1&access%5Ftoken={credential}&b=2"},
                # What browsers and proxies repeat of it:
                {"headers": {**bearer(credential), "x-forwarded-access-token": credential, "x-copy": f"JWT {credential}"}},
                {
                    "headers": {
                        **bearer(credentials[0]),
                        "referer": f"https://example.com/?access_token={credential}&b=2#part",
                        "x-original-uri": f"/ask/1?b=1&access%5ftoken={credential}",
                    }
                },
            ):
                for method, path in (
                    ("PUT", "/items/7"),
                    ("GET", "/items/1"),
                    ("GET", "/items/%FF"),
                    ("GET", "/secret/1"),
                    ("GET", "/own/1"),
                    ("PATCH", "/own/1"),
                    ("POST", "/ask/1"),
                    ("POST", "/later/1"),
                    ("POST", "/missing"),
                    ("OPTIONS", "/items/1"),
                    ("GET", "/events"),
                ):
                    headers = {"prefer": "respond-async", **where.get("headers", {})}  # type: ignore[dict-item]
                    target = f"{path}?{where['query']}" if "query" in where else path
                    response = await proxy.request(method, target, headers=headers, content=b"x")
                    answers.append(f"{response.status_code} {response.headers!r} {response.text}")
        told = " ".join(answers)
        assert {answer[:3] for answer in answers} >= {"200", "202", "204", "401", "403", "405", "503", "504"}
        records = " ".join(repr(record) for name in topics.values() for record in kcat_consume(name))
        assert "/ask/1" in records
        assert "b=2#part" in records
        metered = render(streams=len(proxy.runtime.streams), waiting=proxy.runtime.worker.waiting)
        assert 'route="ask"' in metered
        captured = capfd.readouterr()
        assert "credential_refused" in caplog.text
        stored = _everything_in(tmp_path)
        assert stored
        for credential in credentials:
            for part in (credential, *[each for each in credential.split(".")[1:] if len(each) > 8]):
                for text in (told, records, metered, caplog.text, captured.out, captured.err):
                    assert part not in text
                assert part.encode() not in stored


class TestAnswersToChallenges:
    """A POST that answers a challenge is never taken for anything else; streams are in ``test_continuous_authorization``."""

    ANSWER = {"content-type": "application/x-challenge-response"}

    async def test_it_goes_past_a_route_that_would_make_a_record_of_it(
        self, begin: Begin, topics: dict[str, str], kcat_consume: Consume
    ) -> None:
        write = produce("POST /events", topic=topics["commands"], guarded={"g": []})
        read = stream("/events", topic=topics["items"], guarded={"g": ["read:stream"]})
        proxy = begin(gateway(write, read, credentials=EVERYWHERE))
        assert (await proxy.request("POST", "/events", headers=self.ANSWER)).status_code == 401
        for credential, status in (("rubbish", 401), (fresh(scope=""), 403), (fresh(), 403)):
            response = await proxy.request("POST", "/events", headers={**self.ANSWER, **bearer(credential)})
            assert response.status_code == status
        assert response.json()["type"] == "urn:kafkaproxy:problem:challenge-refused"
        forged = {**self.ANSWER, **bearer(fresh()), "x-challenge-session": "00000000000000000000000000000000:forged"}
        assert (await proxy.request("POST", "/events", headers=forged)).status_code == 403
        assert kcat_consume(topics["commands"]) == []
        assert (await proxy.request("POST", "/events", headers=bearer(fresh()), content=b"x")).status_code == 204

    async def test_where_nothing_streams_it_is_an_ordinary_request(
        self, begin: Begin, topics: dict[str, str], kcat_consume: Consume
    ) -> None:
        proxy = begin(gateway(produce("/events", topic=topics["commands"], guarded={"g": []}), credentials=EVERYWHERE))
        assert (await proxy.request("POST", "/events", headers={**self.ANSWER, **bearer(fresh())})).status_code == 204
        assert len(kcat_consume(topics["commands"])) == 1

    async def test_one_with_a_body_is_an_ordinary_request_too(
        self, begin: Begin, topics: dict[str, str], kcat_consume: Consume
    ) -> None:
        write = produce("POST /events", topic=topics["commands"], guarded={"g": []})
        proxy = begin(gateway(write, stream("/events", topic=topics["items"], guarded={"g": []}), credentials=EVERYWHERE))
        headers = {**self.ANSWER, **bearer(fresh())}
        assert (await proxy.request("POST", "/events", headers=headers, content=b"not lost")).status_code == 204
        assert [record.value for record in kcat_consume(topics["commands"])] == ["not lost"]

    async def test_another_method_of_a_stream_is_405(self, begin: Begin, topics: dict[str, str]) -> None:
        proxy = begin(gateway(stream("/events", topic=topics["items"], guarded={"g": []}), credentials=EVERYWHERE))
        for headers in ({}, {"content-type": "application/json"}):
            response = await proxy.request("POST", "/events", headers={**headers, **bearer(fresh())})
            assert (response.status_code, response.headers["allow"]) == (405, "GET")
