"""Guards on real routes: the reference's rows (authorization), the contract's section *Guards*, and ways around them."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.routing.table import Credentials, Entry, EntryCondition, Gateway, GuardConfig, GuardRequirement, Route
from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.proxy import Proxy, configuration, fetch, gateway, produce, stream
from tests.tokens import fresh, jwk, key_server, options, token

Consume = Callable[[str], list[Consumed]]
PLAIN = "{credentials}"
EVERYWHERE = Credentials(
    guard="g",
    cookies={"access_token": PLAIN},
    headers={"authorization": "Bearer {credentials}"},
    query={"access_token": PLAIN},
)
TOPICS = ("items", "commands", "replies")


def bearer(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}"}


def guarded_by(guard: str, *roles: str) -> tuple[GuardRequirement, ...]:
    return (GuardRequirement(guard=guard, roles=frozenset(roles)),)


def under(name: str, path: str, *routes: Route, guarded: tuple[GuardRequirement, ...] = ()) -> Entry:
    condition = EntryCondition(path=PathTemplate.parse(path))
    return Entry(name=name, levels=((condition,),), guarded=guarded, routes=routes)


@pytest.fixture
def topics(kafka: Cluster, topic: TopicFactory) -> dict[str, str]:
    names = {name: topic(name=name, config={"cleanup.policy": "compact"} if name == "items" else None) for name in TOPICS}
    kafka.produce(names["items"], "apple", key="1", headers=[("zilla:identity", "alice")])
    kafka.produce(names["items"], "pear", key="2", headers=[("zilla:identity", "bob")])
    return names


Start = Callable[..., Proxy]


@pytest.fixture
async def start(kafka: Cluster, tmp_path: Path) -> AsyncIterator[Start]:
    """Start a proxy: ``start(*gateways, guards=None)``."""
    running: list[Proxy] = []

    def begin(*gateways: Gateway, guards: dict[str, dict[str, Any]] | None = None) -> Proxy:
        made = {name: GuardConfig(name=name, **config) for name, config in (guards or {"g": {}}).items() if config}
        made.setdefault("g", GuardConfig(name="g", kind="jwt", options=options(jwk("ES256"), attributes={"tenant": "tenant"})))
        config = replace(configuration(kafka.bootstrap, *gateways), guards=made)
        running.append(Proxy(tmp_path / str(len(running)), config))
        return running[-1]

    yield begin
    for each in running:
        await each.client.aclose()
        each.close()


def items(topics: dict[str, str], path: str = "/items/{id}", **more: Any) -> Route:
    return fetch(path, topic=topics["items"], filters=[{"key": "${params.id}"}], **more)


class TestRows:
    """Rows of the reference: one route, guarded with an empty list; credentials in any of three places."""

    @pytest.fixture
    def proxy(self, start: Start, topics: dict[str, str]) -> Proxy:
        return start(gateway(items(topics, guarded={"g": []}), credentials=EVERYWHERE))

    async def test_missing(self, proxy: Proxy) -> None:
        response = await proxy.request("GET", "/items/1")
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="gateway"'
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"] == "urn:kafkaproxy:problem:unauthorized"
        assert response.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("place", ["cookie", "header", "query"])
    @pytest.mark.parametrize(
        "bad",
        [token(exp=time.time() - 1), "EXPIRED", fresh(iss="x"), fresh()[:-4] + "AAAA"],
        ids=["old", "none", "foreign", "broken"],
    )
    async def test_rejected(self, proxy: Proxy, place: str, bad: str) -> None:
        response = await _ask(proxy, place, bad)
        assert response.status_code == 401  # 403 in the reference (D4)
        assert response.headers["www-authenticate"] == 'Bearer realm="gateway", error="invalid_token"'

    @pytest.mark.parametrize("place", ["cookie", "header", "query"])
    async def test_authorized(self, proxy: Proxy, place: str) -> None:
        response = await _ask(proxy, place, fresh())
        assert (response.status_code, response.text) == (200, "apple")
        assert response.headers["vary"] == "cookie, authorization"

    async def test_a_token_without_roles_is_enough_for_an_empty_list(self, proxy: Proxy) -> None:  # D28
        assert (await _ask(proxy, "header", fresh(scope=None))).status_code == 200

    async def test_head_and_what_is_not_modified(self, proxy: Proxy) -> None:
        assert (await proxy.request("HEAD", "/items/1")).status_code == 401
        good = bearer(fresh())
        etag = (await proxy.request("HEAD", "/items/1", headers=good)).headers["etag"]
        unmodified = await proxy.request("GET", "/items/1", headers={**good, "if-none-match": etag})
        assert (unmodified.status_code, unmodified.headers["vary"]) == (304, "cookie, authorization")
        assert (await proxy.request("GET", "/items/1", headers={"if-none-match": etag})).status_code == 401

    @pytest.mark.parametrize("size", [20_000, 40_000])
    async def test_an_oversized_credential_is_refused(self, proxy: Proxy, size: int) -> None:
        for place in ("cookie", "header", "query"):
            assert (await _ask(proxy, place, "x" * size)).status_code == 401
            assert (await _ask(proxy, place, fresh(padding="x" * size))).status_code == 401


async def _ask(proxy: Proxy, place: str, credential: str) -> httpx.Response:
    match place:
        case "cookie":
            return await proxy.request("GET", "/items/1", headers={"cookie": f"a=1; access_token={credential}; b=2"})
        case "header":
            return await proxy.request("GET", "/items/1", headers=bearer(credential))
        case _:
            return await proxy.request("GET", f"/items/1?a=1&access_token={credential}&parameter=value")


class TestPlaces:
    """A credential counts only where its gateway says."""

    @pytest.mark.parametrize(
        ("where", "accepted"),
        [
            ({"cookies": {"access_token": PLAIN}}, "cookie"),
            ({"headers": {"authorization": "Bearer {credentials}"}}, "header"),
            ({"query": {"access_token": PLAIN}}, "query"),
            ({}, ""),
        ],
    )
    async def test_in_the_wrong_place_it_is_none(
        self, start: Start, topics: dict[str, str], where: dict[str, Any], accepted: str
    ) -> None:
        places = Credentials(guard="g", **{"cookies": {}, "headers": {}, "query": {}, **where})
        proxy = start(gateway(items(topics, guarded={"g": []}), credentials=places))
        for place in ("cookie", "header", "query"):
            assert (await _ask(proxy, place, fresh())).status_code == (200 if place == accepted else 401)

    async def test_without_places_or_with_those_of_another_guard_nobody_gets_past(
        self, start: Start, topics: dict[str, str]
    ) -> None:
        for places in (None, replace(EVERYWHERE, guard="other")):
            proxy = start(gateway(items(topics, guarded={"g": []}), credentials=places))
            for place in ("cookie", "header", "query"):
                assert (await _ask(proxy, place, fresh())).status_code == 401

    async def test_each_gateway_has_its_own_places(self, start: Start, topics: dict[str, str]) -> None:
        header = Credentials(guard="g", cookies={}, headers={"authorization": "Bearer {credentials}"}, query={})
        query = Credentials(guard="g", cookies={}, headers={}, query={"access_token": PLAIN})
        put = produce("PUT /items/{id}", topic=topics["items"], key="${params.id}", guarded={"g": []})
        first = gateway(put, name="one", credentials=header)
        second = gateway(items(topics, guarded={"g": []}), name="two", credentials=query)
        proxy = start(first, second)
        assert (await _ask(proxy, "query", fresh())).status_code == 200
        assert (await _ask(proxy, "header", fresh())).status_code == 401
        assert (await proxy.request("PUT", f"/items/3?access_token={fresh()}")).status_code == 401
        assert (await proxy.request("PUT", "/items/3", headers=bearer(fresh()))).status_code == 204

    async def test_basic_is_asked_for_where_basic_is_taken(self, start: Start, topics: dict[str, str]) -> None:
        places = Credentials(guard="g", cookies={}, headers={"authorization": "Basic {username}:{credentials}"}, query={})
        proxy = start(gateway(items(topics, guarded={"g": []}), credentials=places))
        response = await proxy.request("GET", "/items/1")
        assert response.headers["www-authenticate"] == 'Basic realm="gateway"'
        good = base64.b64encode(f"key:{fresh()}".encode()).decode()
        assert (await proxy.request("GET", "/items/1", headers={"authorization": f"basic {good}"})).text == "apple"


class TestRoles:
    """401 without a valid credential, 403 without the roles, and which route serves whom."""

    async def test_all_roles_are_needed(self, start: Start, topics: dict[str, str]) -> None:
        proxy = start(gateway(items(topics, guarded={"g": ["read:stream", "write:stream"]}), credentials=EVERYWHERE))
        assert (await _ask(proxy, "header", fresh())).status_code == 200
        for scope in ("read:stream", "", ["read:stream write:stream"], "READ:STREAM WRITE:STREAM"):
            response = await _ask(proxy, "header", fresh(scope=scope))
            assert response.status_code == 403
            assert "www-authenticate" not in response.headers
        assert (await proxy.request("GET", "/items/1")).status_code == 401

    async def test_several_guards_all_have_to_pass(self, start: Start, topics: dict[str, str]) -> None:
        proxy = start(gateway(items(topics, guarded={"g": [], "other": []}), credentials=EVERYWHERE))
        assert (await _ask(proxy, "header", fresh())).status_code == 401

    async def test_an_unknown_guard_refuses(self, start: Start, topics: dict[str, str]) -> None:
        proxy = start(gateway(items(topics, guarded={"nobody": []}), credentials=replace(EVERYWHERE, guard="nobody")))
        assert (await _ask(proxy, "header", fresh())).status_code == 401

    @pytest.mark.parametrize(
        "config",
        [{"kind": "no-such-kind", "options": {}}, {"kind": "jwt", "options": {}}, {"kind": "jwt", "options": {"kyes": []}}],
    )
    async def test_a_guard_that_cannot_be_made_refuses(
        self, start: Start, topics: dict[str, str], config: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        proxy = start(gateway(items(topics, guarded={"g": []}), credentials=EVERYWHERE), guards={"g": config})
        assert "guard=g" in caplog.text
        assert (await _ask(proxy, "header", fresh())).status_code == 401

    async def test_the_first_route_whose_guards_pass_serves(self, start: Start, topics: dict[str, str]) -> None:
        admin = fetch("/items/{id}", topic=topics["items"], filters=[{"key": "2"}], guarded={"g": ["admin"]}, name="admin")
        proxy = start(gateway(admin, items(topics), credentials=EVERYWHERE))
        assert (await proxy.request("GET", "/items/1")).text == "apple"
        assert (await _ask(proxy, "header", fresh())).text == "apple"
        response = await _ask(proxy, "header", fresh(scope="admin"))
        assert response.text == "pear"
        assert response.headers["vary"] == "cookie, authorization"
        # What an anonymous client got depends on the field as well, or a cache would give it to the admin.
        assert (await proxy.request("GET", "/items/1")).headers["vary"] == "cookie, authorization"

    async def test_the_first_entry_whose_guards_pass_is_the_entry(self, start: Start, topics: dict[str, str]) -> None:
        entries = (
            under(
                "admin",
                "/items/*",
                fetch("/items/{id}", topic=topics["items"], filters=[{"key": "2"}]),
                guarded=guarded_by("g", "admin"),
            ),
            under("members", "/items/*", items(topics), guarded=guarded_by("g")),
        )
        proxy = start(replace(gateway(credentials=EVERYWHERE), entries=entries))
        assert (await proxy.request("GET", "/items/1")).status_code == 401
        assert (await _ask(proxy, "header", fresh())).text == "apple"
        assert (await _ask(proxy, "header", fresh(scope="admin"))).text == "pear"

    async def test_guards_of_both_levels_have_to_pass(self, start: Start, topics: dict[str, str]) -> None:
        entry = under("all", "/items/*", items(topics, guarded={"g": ["b"]}), guarded=guarded_by("g", "a"))
        proxy = start(replace(gateway(credentials=EVERYWHERE), entries=(entry,)))
        statuses = [(await _ask(proxy, "header", fresh(scope=scope))).status_code for scope in ("a", "b", "a b", "")]
        assert statuses == [403, 403, 200, 403]

    async def test_a_route_that_is_not_guarded_serves_anybody(self, start: Start, topics: dict[str, str]) -> None:
        proxy = start(gateway(items(topics), credentials=EVERYWHERE))
        for headers in ({}, bearer("rubbish"), bearer(fresh())):
            response = await proxy.request("GET", "/items/1", headers=headers)
            assert (response.status_code, response.headers.get("vary")) == (200, None)


class TestIdentity:
    """Identity and attributes in topic, key, overrides and filters."""

    async def test_in_key_overrides_and_topic(self, start: Start, topic: TopicFactory, kcat_consume: Consume) -> None:
        target = topic(name="alice")
        route = produce(
            "/notes",
            topic=target.replace("alice", "${guarded['g'].identity}"),
            key="${guarded['g'].attributes.tenant}",
            overrides={"zilla:identity": "${guarded['g'].identity}"},
            guarded={"g": []},
        )
        proxy = start(gateway(route, credentials=EVERYWHERE))
        sent = await proxy.request(
            "POST", "/notes", headers={**bearer(fresh(tenant="t-1")), "zilla:identity": "mallory"}, content=b"n"
        )
        assert sent.status_code == 204
        assert (await proxy.request("POST", "/notes", headers=bearer(fresh(sub="../x y")), content=b"n")).status_code == 404
        [record] = kcat_consume(target)
        assert (record.key, record.headers) == ("t-1", [("zilla:identity", "alice")])

    async def test_a_filter_shows_everybody_their_own(self, start: Start, kafka: Cluster, topic: TopicFactory) -> None:
        notes = topic(name="notes", config={"cleanup.policy": "compact"})
        for number, owner in enumerate(("alice", "bob", "alice")):
            kafka.produce(notes, str(number), key=f"note-{number}", headers=[("zilla:identity", owner)])
        own = [{"headers": {"zilla:identity": "${guarded['g'].identity}"}}]
        proxy = start(gateway(fetch("/mine", topic=notes, merge=True, filters=own, guarded={"g": []}), credentials=EVERYWHERE))
        assert (await proxy.request("GET", "/mine")).status_code == 401
        for sub, seen in (("alice", [0, 2]), ("bob", [1]), ("carol", []), (None, []), ("", []), ("*", [])):
            assert (await proxy.request("GET", "/mine", headers=bearer(fresh(sub=sub)))).json() == seen

    async def test_an_empty_identity_is_no_lack_of_a_filter(self, start: Start, topics: dict[str, str]) -> None:
        keyed = fetch("/own", topic=topics["items"], filters=[{"key": "${guarded['g'].identity}"}], name="own")
        headed = fetch("/mine", topic=topics["items"], filters=[{"headers": {"zilla:identity": "${guarded['g'].identity}"}}])
        proxy = start(gateway(keyed, headed, credentials=EVERYWHERE))
        for headers in ({}, bearer("rubbish"), bearer(fresh(sub=None)), bearer(fresh(sub=""))):
            for path in ("/own", "/mine"):
                assert (await proxy.request("GET", path, headers=headers)).status_code == 404
        assert (await proxy.request("GET", "/mine", headers=bearer(fresh()))).text == "apple"
        assert (await proxy.request("GET", "/own", headers=bearer(fresh(sub="1")))).text == "apple"

    async def test_what_depends_on_an_identity_varies_even_where_nothing_is_guarded(
        self, start: Start, topics: dict[str, str]
    ) -> None:
        mine = fetch("/mine", topic=topics["items"], filters=[{"headers": {"zilla:identity": "${guarded['g'].identity}"}}])
        proxy = start(gateway(mine, credentials=EVERYWHERE))
        for headers in ({}, bearer(fresh())):
            assert (await proxy.request("GET", "/mine", headers=headers)).headers["vary"] == "cookie, authorization"

    async def test_an_identity_with_anything_in_it_is_only_a_value(
        self, start: Start, topics: dict[str, str], kcat_consume: Consume
    ) -> None:
        names = ["a\r\nx-evil: 1", "a\tb", "${params.id}", "é\u202e", "' OR 1=1", "{}"]
        route = produce(
            "/notes", topic=topics["commands"], key="${guarded['g'].identity}", overrides={"who": "${guarded['g'].identity}"}
        )
        proxy = start(gateway(replace(route, guarded=guarded_by("g")), credentials=EVERYWHERE))
        for name in names:
            assert (await proxy.request("POST", "/notes", headers=bearer(fresh(sub=name)))).status_code == 204
        records = kcat_consume(topics["commands"])
        assert [record.key for record in records] == names
        assert [record.headers for record in records] == [[("who", name)] for name in names]


class TestKeysThatComeAndGo:
    """A guard whose keys are at a URL."""

    async def test_while_there_are_no_keys_it_is_503_and_then_it_works(self, start: Start, topics: dict[str, str]) -> None:
        with key_server() as server:
            server.say(b"not now", 503)
            proxy = start(
                gateway(items(topics, guarded={"g": []}), credentials=EVERYWHERE),
                guards={"g": {"kind": "jwt", "options": options(keys=server.url)}},
            )
            response = await _ask(proxy, "header", fresh())
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            assert "www-authenticate" not in response.headers
            assert (await proxy.request("GET", "/items/1")).status_code == 401
            assert (await _ask(proxy, "header", "rubbish")).status_code == 401
            server.serve(jwk("ES256"))
            for _ in range(200):  # the location is given a rest of a second after its first failure
                response = await _ask(proxy, "header", fresh())
                if response.status_code != 503:
                    break
                await asyncio.sleep(0.1)
            assert response.text == "apple"

    async def test_a_location_that_hangs_holds_nobody_else_up(self, start: Start, topics: dict[str, str]) -> None:
        with key_server() as server:
            server.answer = lambda _request: time.sleep(20)
            proxy = start(
                gateway(items(topics, guarded={"g": []}), items(topics, "/open/{id}", name="open"), credentials=EVERYWHERE),
                gateway(items(topics, "/public/{id}"), name="public"),
                guards={"g": {"kind": "jwt", "options": options(keys=server.url, timeout=1)}},
            )
            waiting = asyncio.ensure_future(_ask(proxy, "header", fresh()))
            await asyncio.sleep(0.05)
            assert (await proxy.request("GET", "/public/1")).text == "apple"
            assert (await proxy.request("GET", "/open/1")).text == "apple"
            assert not waiting.done()
            assert (await waiting).status_code == 503

    async def test_a_change_of_something_else_keeps_keys_and_verified_tokens(
        self, start: Start, topics: dict[str, str]
    ) -> None:
        with key_server(jwk("ES256")) as server:
            proxy = start(
                gateway(items(topics, guarded={"g": []}), credentials=EVERYWHERE),
                guards={"g": {"kind": "jwt", "options": options(keys=server.url)}},
            )
            good = fresh()
            assert (await _ask(proxy, "header", good)).status_code == 200
            assert proxy.runtime.table is not None
            proxy.runtime.configure(replace(proxy.runtime.table.configuration, version=2))
            assert (await _ask(proxy, "header", good)).status_code == 200
            assert len(server.asked) == 1
            changed = GuardConfig(name="g", kind="jwt", options=options(keys=server.url, audience="another"))
            proxy.runtime.configure(replace(proxy.runtime.table.configuration, version=3, guards={"g": changed}))
            assert (await _ask(proxy, "header", good)).status_code == 401


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
async def test_no_spelling_of_a_path_leads_around_a_guard(start: Start, topics: dict[str, str], path: str) -> None:
    guarded = under("admin", "/admin/*", items(topics, "/admin/{id}", name="admin"), guarded=guarded_by("g"))
    public = under("public", "/public/*", fetch("/public/{id}", topic=topics["items"], filters=[{"key": "2"}], name="public"))
    rest = under("rest", "*", stream("/events", topic=topics["items"]))
    proxy = start(replace(gateway(credentials=EVERYWHERE), entries=(guarded, public, rest)))
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


def _everything_in(folder: Path) -> bytes:
    return b"".join(each.read_bytes() for each in folder.rglob("*") if each.is_file())


class TestACredentialStaysWhereItIs:
    """Neither a record, nor a log line, nor an answer, nor the store holds any part of it."""

    async def test_it_is_nowhere(
        self,
        start: Start,
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
            "/ask/{id}", topic=topics["commands"], key="${params.id}", reply_to=topics["replies"], timeout=0.2, name="ask"
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
            produce("/missing", topic="there-is-no-such-topic", guarded={"g": []}, name="missing"),
        ]
        proxy = start(gateway(*routes, credentials=places))
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
                ):
                    headers = {"prefer": "respond-async", **where.get("headers", {})}  # type: ignore[dict-item]
                    target = f"{path}?{where['query']}" if "query" in where else path
                    response = await proxy.request(method, target, headers=headers, content=b"x")
                    answers.append(f"{response.status_code} {response.headers!r} {response.text}")
        told = " ".join(answers)
        assert {answer[:3] for answer in answers} >= {"200", "202", "204", "401", "403", "405", "503", "504"}
        records = " ".join(repr(record) for name in topics.values() for record in kcat_consume(name))
        assert "/ask/1" in records
        captured = capfd.readouterr()
        assert "credential_refused" in caplog.text
        stored = _everything_in(tmp_path)
        assert stored
        for credential in credentials:
            for part in (credential, *[each for each in credential.split(".")[1:] if len(each) > 8]):
                for text in (told, records, caplog.text, captured.out, captured.err):
                    assert part not in text
                assert part.encode() not in stored


class TestAnswersToChallenges:
    """A POST that answers a challenge is never taken for anything else; streams are in ``test_continuous_authorization``."""

    ANSWER = {"content-type": "application/x-challenge-response"}

    async def test_it_goes_past_a_route_that_would_make_a_record_of_it(
        self, start: Start, topics: dict[str, str], kcat_consume: Consume
    ) -> None:
        write = produce("POST /events", topic=topics["commands"], guarded={"g": []})
        read = stream("/events", topic=topics["items"], guarded={"g": ["read:stream"]})
        proxy = start(gateway(write, read, credentials=EVERYWHERE))
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
        self, start: Start, topics: dict[str, str], kcat_consume: Consume
    ) -> None:
        proxy = start(gateway(produce("/events", topic=topics["commands"], guarded={"g": []}), credentials=EVERYWHERE))
        assert (await proxy.request("POST", "/events", headers={**self.ANSWER, **bearer(fresh())})).status_code == 204
        assert len(kcat_consume(topics["commands"])) == 1

    async def test_another_method_of_a_stream_is_405(self, start: Start, topics: dict[str, str]) -> None:
        proxy = start(gateway(stream("/events", topic=topics["items"], guarded={"g": []}), credentials=EVERYWHERE))
        for headers in ({}, {"content-type": "application/json"}):
            response = await proxy.request("POST", "/events", headers={**headers, **bearer(fresh())})
            assert (response.status_code, response.headers["allow"]) == (405, "GET")


class TestWhatIsPublicStaysFast:
    """Guards elsewhere in a gateway cost a public route nothing."""

    @pytest.fixture
    def proxy(self, start: Start, topics: dict[str, str]) -> Proxy:
        public = items(topics, "/public/{id}", name="public")
        private = items(topics, "/items/{id}", guarded={"g": []}, name="private")
        both = fetch("/{any}/2", topic=topics["items"], filters=[{"key": "2"}], guarded={"g": ["admin"]}, name="both")
        return start(gateway(both, public, private, credentials=EVERYWHERE))

    async def test_no_guard_is_asked(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        assert proxy.runtime.table is not None
        monkeypatch.setattr(proxy.runtime.table.guards, "_ask", lambda *_: pytest.fail("a guard was asked"))
        for _ in range(3):  # by the table, by the plan, by the kept answer
            assert (await proxy.request("GET", "/public/1", headers=bearer("rubbish"))).text == "apple"

    async def test_what_a_guard_decides_is_not_kept_for_others(self, proxy: Proxy) -> None:
        admin = bearer(fresh(scope="admin"))
        for _ in range(3):
            assert (await proxy.request("GET", "/items/1", headers=bearer(fresh()))).text == "apple"
            assert (await proxy.request("GET", "/items/1")).status_code == 401
            assert (await proxy.request("GET", "/public/2")).text == "pear"
            assert (await proxy.request("GET", "/items/2", headers=admin)).text == "pear"
            assert (await proxy.request("GET", "/items/2")).status_code == 401
