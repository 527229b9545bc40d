"""Guards on real routes: the reference's rows (authorization), and the contract, *Guards*."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kafkaproxy.routing.table import Credentials
from tests.conformance.conftest import Begin
from tests.conftest import TopicFactory
from tests.kafka import Cluster, Consumed
from tests.support.guarded import EVERYWHERE, PLAIN, ask, bearer, guarded_by, items, under
from tests.support.proxy import Proxy, fetch, gateway, produce
from tests.support.tokens import fresh, token

Consume = Callable[[str], list[Consumed]]


class TestRows:
    """Rows of the reference: one route, guarded with an empty list; credentials in any of three places."""

    @pytest.fixture
    def proxy(self, begin: Begin, topics: dict[str, str]) -> Proxy:
        return begin(gateway(items(topics, guarded={"g": []}), credentials=EVERYWHERE))

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
        response = await ask(proxy, place, bad)
        assert response.status_code == 401  # 403 in the reference (D4)
        assert response.headers["www-authenticate"] == 'Bearer realm="gateway", error="invalid_token"'

    @pytest.mark.parametrize("place", ["cookie", "header", "query"])
    async def test_authorized(self, proxy: Proxy, place: str) -> None:
        response = await ask(proxy, place, fresh())
        assert (response.status_code, response.text) == (200, "apple")
        assert response.headers["vary"] == "cookie, authorization"

    async def test_a_token_without_roles_is_enough_for_an_empty_list(self, proxy: Proxy) -> None:  # D28
        assert (await ask(proxy, "header", fresh(scope=None))).status_code == 200

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
            assert (await ask(proxy, place, "x" * size)).status_code == 401
            assert (await ask(proxy, place, fresh(padding="x" * size))).status_code == 401


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
        self, begin: Begin, topics: dict[str, str], where: dict[str, Any], accepted: str
    ) -> None:
        places = Credentials(guard="g", **{"cookies": {}, "headers": {}, "query": {}, **where})
        proxy = begin(gateway(items(topics, guarded={"g": []}), credentials=places))
        for place in ("cookie", "header", "query"):
            assert (await ask(proxy, place, fresh())).status_code == (200 if place == accepted else 401)

    async def test_without_places_or_with_those_of_another_guard_nobody_gets_past(
        self, begin: Begin, topics: dict[str, str]
    ) -> None:
        for places in (None, replace(EVERYWHERE, guard="other")):
            proxy = begin(gateway(items(topics, guarded={"g": []}), credentials=places))
            for place in ("cookie", "header", "query"):
                assert (await ask(proxy, place, fresh())).status_code == 401

    async def test_each_gateway_has_its_own_places(self, begin: Begin, topics: dict[str, str]) -> None:
        header = Credentials(guard="g", cookies={}, headers={"authorization": "Bearer {credentials}"}, query={})
        query = Credentials(guard="g", cookies={}, headers={}, query={"access_token": PLAIN})
        put = produce("PUT /items/{id}", topic=topics["items"], key="${params.id}", guarded={"g": []})
        first = gateway(put, name="one", credentials=header)
        second = gateway(items(topics, guarded={"g": []}), name="two", credentials=query)
        proxy = begin(first, second)
        assert (await ask(proxy, "query", fresh())).status_code == 200
        assert (await ask(proxy, "header", fresh())).status_code == 401
        assert (await proxy.request("PUT", f"/items/3?access_token={fresh()}")).status_code == 401
        assert (await proxy.request("PUT", "/items/3", headers=bearer(fresh()))).status_code == 204

    async def test_basic_is_asked_for_where_basic_is_taken(self, begin: Begin, topics: dict[str, str]) -> None:
        places = Credentials(guard="g", cookies={}, headers={"authorization": "Basic {username}:{credentials}"}, query={})
        proxy = begin(gateway(items(topics, guarded={"g": []}), credentials=places))
        response = await proxy.request("GET", "/items/1")
        assert response.headers["www-authenticate"] == 'Basic realm="gateway"'
        good = base64.b64encode(f"key:{fresh()}".encode()).decode()
        assert (await proxy.request("GET", "/items/1", headers={"authorization": f"basic {good}"})).text == "apple"


class TestRoles:
    """401 without a valid credential, 403 without the roles, and which route serves whom."""

    async def test_all_roles_are_needed(self, begin: Begin, topics: dict[str, str]) -> None:
        proxy = begin(gateway(items(topics, guarded={"g": ["read:stream", "write:stream"]}), credentials=EVERYWHERE))
        assert (await ask(proxy, "header", fresh())).status_code == 200
        for scope in ("read:stream", "", ["read:stream write:stream"], "READ:STREAM WRITE:STREAM"):
            response = await ask(proxy, "header", fresh(scope=scope))
            assert response.status_code == 403
            assert "www-authenticate" not in response.headers
        assert (await proxy.request("GET", "/items/1")).status_code == 401

    async def test_several_guards_all_have_to_pass(self, begin: Begin, topics: dict[str, str]) -> None:
        proxy = begin(gateway(items(topics, guarded={"g": [], "other": []}), credentials=EVERYWHERE))
        assert (await ask(proxy, "header", fresh())).status_code == 401

    async def test_an_unknown_guard_refuses(self, begin: Begin, topics: dict[str, str]) -> None:
        proxy = begin(gateway(items(topics, guarded={"nobody": []}), credentials=replace(EVERYWHERE, guard="nobody")))
        assert (await ask(proxy, "header", fresh())).status_code == 401

    @pytest.mark.parametrize(
        "config",
        [{"kind": "no-such-kind", "options": {}}, {"kind": "jwt", "options": {}}, {"kind": "jwt", "options": {"kyes": []}}],
    )
    async def test_a_guard_that_cannot_be_made_refuses(
        self,
        begin: Begin,
        topics: dict[str, str],
        config: dict[str, Any],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        proxy = begin(gateway(items(topics, guarded={"g": []}), credentials=EVERYWHERE), guards={"g": config})
        assert "guard=g" in caplog.text
        assert (await ask(proxy, "header", fresh())).status_code == 401

    async def test_the_first_route_whose_guards_pass_serves(self, begin: Begin, topics: dict[str, str]) -> None:
        admin = fetch("/items/{id}", topic=topics["items"], filters=[{"key": "2"}], guarded={"g": ["admin"]}, name="admin")
        proxy = begin(gateway(admin, items(topics), credentials=EVERYWHERE))
        assert (await proxy.request("GET", "/items/1")).text == "apple"
        assert (await ask(proxy, "header", fresh())).text == "apple"
        response = await ask(proxy, "header", fresh(scope="admin"))
        assert response.text == "pear"
        assert response.headers["vary"] == "cookie, authorization"
        # What an anonymous client got depends on the field as well, or a cache would give it to the admin.
        assert (await proxy.request("GET", "/items/1")).headers["vary"] == "cookie, authorization"

    async def test_the_first_entry_whose_guards_pass_is_the_entry(self, begin: Begin, topics: dict[str, str]) -> None:
        entries = (
            under(
                "admin",
                "/items/*",
                fetch("/items/{id}", topic=topics["items"], filters=[{"key": "2"}]),
                guarded=guarded_by("g", "admin"),
            ),
            under("members", "/items/*", items(topics), guarded=guarded_by("g")),
        )
        proxy = begin(replace(gateway(credentials=EVERYWHERE), entries=entries))
        assert (await proxy.request("GET", "/items/1")).status_code == 401
        assert (await ask(proxy, "header", fresh())).text == "apple"
        assert (await ask(proxy, "header", fresh(scope="admin"))).text == "pear"

    async def test_guards_of_both_levels_have_to_pass(self, begin: Begin, topics: dict[str, str]) -> None:
        entry = under("all", "/items/*", items(topics, guarded={"g": ["b"]}), guarded=guarded_by("g", "a"))
        proxy = begin(replace(gateway(credentials=EVERYWHERE), entries=(entry,)))
        statuses = [(await ask(proxy, "header", fresh(scope=scope))).status_code for scope in ("a", "b", "a b", "")]
        assert statuses == [403, 403, 200, 403]

    async def test_a_route_that_is_not_guarded_serves_anybody(self, begin: Begin, topics: dict[str, str]) -> None:
        proxy = begin(gateway(items(topics), credentials=EVERYWHERE))
        for headers in ({}, bearer("rubbish"), bearer(fresh())):
            response = await proxy.request("GET", "/items/1", headers=headers)
            assert (response.status_code, response.headers.get("vary")) == (200, None)


class TestIdentity:
    """Identity and attributes in topic, key, overrides and filters."""

    async def test_in_key_overrides_and_topic(self, begin: Begin, topic: TopicFactory, kcat_consume: Consume) -> None:
        target = topic(name="alice")
        route = produce(
            "/notes",
            topic=target.replace("alice", "${guarded['g'].identity}"),
            key="${guarded['g'].attributes.tenant}",
            overrides={"zilla:identity": "${guarded['g'].identity}"},
            guarded={"g": []},
        )
        proxy = begin(gateway(route, credentials=EVERYWHERE))
        sent = await proxy.request(
            "POST", "/notes", headers={**bearer(fresh(tenant="t-1")), "zilla:identity": "mallory"}, content=b"n"
        )
        assert sent.status_code == 204
        assert (await proxy.request("POST", "/notes", headers=bearer(fresh(sub="../x y")), content=b"n")).status_code == 404
        [record] = kcat_consume(target)
        assert (record.key, record.headers) == ("t-1", [("zilla:identity", "alice")])

    async def test_in_reply_to(
        self, begin: Begin, kafka: Cluster, topics: dict[str, str], topic: TopicFactory, kcat_consume: Consume
    ) -> None:
        replies = topic(name="replies-alice")
        route = produce(
            "/orders",
            topic=topics["commands"],
            reply_to=replies.replace("alice", "${guarded['g'].identity}"),
            async_={"location": "/orders/${correlationId}"},
            guarded={"g": []},
        )
        proxy = begin(gateway(route, credentials=EVERYWHERE))
        headers = {**bearer(fresh()), "prefer": "respond-async", "zilla:reply-to": topics["replies"]}
        accepted = await proxy.request("POST", "/orders", headers=headers, content=b"one pear")
        assert accepted.status_code == 202
        [record] = kcat_consume(topics["commands"])
        sent = dict(record.headers)
        assert sent["zilla:reply-to"] == replies
        kafka.produce(replies, "here", headers=[("zilla:correlation-id", sent["zilla:correlation-id"])])
        location = accepted.headers["location"]
        mine = await proxy.request("GET", location, headers={**bearer(fresh()), "prefer": "wait=30"})
        assert (mine.status_code, mine.text) == (200, "here")
        assert (await proxy.request("GET", location, headers=bearer(fresh(sub="bob")))).status_code == 404
        assert (await proxy.request("GET", location)).status_code == 401

    async def test_a_filter_shows_everybody_their_own(self, begin: Begin, kafka: Cluster, topic: TopicFactory) -> None:
        notes = topic(name="notes", config={"cleanup.policy": "compact"})
        for number, owner in enumerate(("alice", "bob", "alice")):
            kafka.produce(notes, str(number), key=f"note-{number}", headers=[("zilla:identity", owner)])
        own = [{"headers": {"zilla:identity": "${guarded['g'].identity}"}}]
        proxy = begin(gateway(fetch("/mine", topic=notes, merge=True, filters=own, guarded={"g": []}), credentials=EVERYWHERE))
        assert (await proxy.request("GET", "/mine")).status_code == 401
        for sub, seen in (("alice", [0, 2]), ("bob", [1]), ("carol", []), (None, []), ("", []), ("*", [])):
            assert (await proxy.request("GET", "/mine", headers=bearer(fresh(sub=sub)))).json() == seen

    async def test_an_empty_identity_is_no_lack_of_a_filter(self, begin: Begin, topics: dict[str, str]) -> None:
        keyed = fetch("/own", topic=topics["items"], filters=[{"key": "${guarded['g'].identity}"}], name="own")
        headed = fetch("/mine", topic=topics["items"], filters=[{"headers": {"zilla:identity": "${guarded['g'].identity}"}}])
        proxy = begin(gateway(keyed, headed, credentials=EVERYWHERE))
        for headers in ({}, bearer("rubbish"), bearer(fresh(sub=None)), bearer(fresh(sub=""))):
            for path in ("/own", "/mine"):
                assert (await proxy.request("GET", path, headers=headers)).status_code == 404
        assert (await proxy.request("GET", "/mine", headers=bearer(fresh()))).text == "apple"
        assert (await proxy.request("GET", "/own", headers=bearer(fresh(sub="1")))).text == "apple"

    async def test_what_depends_on_an_identity_varies_even_where_nothing_is_guarded(
        self, begin: Begin, topics: dict[str, str]
    ) -> None:
        mine = fetch("/mine", topic=topics["items"], filters=[{"headers": {"zilla:identity": "${guarded['g'].identity}"}}])
        proxy = begin(gateway(mine, credentials=EVERYWHERE))
        for headers in ({}, bearer(fresh())):
            assert (await proxy.request("GET", "/mine", headers=headers)).headers["vary"] == "cookie, authorization"

    async def test_an_identity_with_anything_in_it_is_only_a_value(
        self, begin: Begin, topics: dict[str, str], kcat_consume: Consume
    ) -> None:
        names = ["a\r\nx-evil: 1", "a\tb", "${params.id}", "é\u202e", "' OR 1=1", "{}"]
        route = produce(
            "/notes",
            topic=topics["commands"],
            key="${guarded['g'].identity}",
            overrides={"who": "${guarded['g'].identity}"},
        )
        proxy = begin(gateway(replace(route, guarded=guarded_by("g")), credentials=EVERYWHERE))
        for name in names:
            assert (await proxy.request("POST", "/notes", headers=bearer(fresh(sub=name)))).status_code == 204
        records = kcat_consume(topics["commands"])
        assert [record.key for record in records] == names
        assert [record.headers for record in records] == [[("who", name)] for name in names]


class TestWhatIsPublicStaysFast:
    """Guards elsewhere in a gateway cost a public route nothing."""

    @pytest.fixture
    def proxy(self, begin: Begin, topics: dict[str, str]) -> Proxy:
        public = items(topics, "/public/{id}", name="public")
        private = items(topics, "/items/{id}", guarded={"g": []}, name="private")
        both = fetch("/{any}/2", topic=topics["items"], filters=[{"key": "2"}], guarded={"g": ["admin"]}, name="both")
        return begin(gateway(both, public, private, credentials=EVERYWHERE))

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
