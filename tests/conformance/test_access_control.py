"""CORS on real routes: the reference's rows (access control) as far as they hold here, and the contract, *CORS* (D30)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from django.test import override_settings

from kafkaproxy.core.paths import PathTemplate
from kafkaproxy.routing.table import AccessControl, Credentials, Entry, EntryCondition, GuardConfig
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce, stream
from tests.support.tokens import jwk, options

OWN = "https://example.com:9090"
FOREIGN = "https://example.net:9090"
OTHER = "https://example.org:9090"
ANY = AccessControl(policy="cross-origin")
LISTED = AccessControl(
    policy="cross-origin",
    allow_origins=frozenset({FOREIGN}),
    allow_methods=frozenset({"GET", "DELETE"}),
    allow_headers=frozenset({"x-api-key", "x-trace"}),
)
CREDENTIALS = AccessControl(policy="cross-origin", allow_credentials=True)
POLICIES: Mapping[str, AccessControl | None] = {
    "any": ANY,
    "anycache": replace(ANY, max_age=10),
    "listed": LISTED,
    "listedcache": replace(LISTED, max_age=10),
    "credentials": CREDENTIALS,
    "credentialscache": replace(CREDENTIALS, max_age=10),
    "expose": replace(ANY, expose_headers=frozenset({"etag", "x-custom-header"})),
    "star": AccessControl(policy="cross-origin", allow_origins=frozenset({"*"}), allow_headers=frozenset({"*"})),
    "same": AccessControl(policy="same-origin"),
    "none": None,
}


@pytest.fixture
async def proxy(kafka: Cluster, topic: TopicFactory, tmp_path: Path) -> AsyncIterator[Proxy]:
    """One gateway for each policy, at ``/<policy>/…``."""
    items = topic(name="items", config={"cleanup.policy": "compact"})
    kafka.produce(items, "apple", key="1")
    gateways = [
        gateway(
            produce(f"/{name}/items/{{id}}", topic=items, key="${params.id}"),
            fetch(f"/{name}/items/{{id}}", topic=items, filters=[{"key": "${params.id}"}]),
            stream(f"/{name}/events", topic=items),
            stream(f"/{name}/guarded", topic=items, guarded={"g": []}, name="guarded"),
            fetch(f"/{name}/secret/{{id}}", topic=items, filters=[{"key": "${params.id}"}], guarded={"g": []}, name="secret"),
            name=name,
            access_control=policy,
            credentials=Credentials(guard="g", cookies={}, headers={"x-token": "{credentials}"}, query={}),
        )
        for name, policy in POLICIES.items()
    ]
    guards = {"g": GuardConfig(name="g", kind="jwt", options=options(jwk("ES256")))}
    running = Proxy(tmp_path, replace(configuration(kafka.bootstrap, *gateways), guards=guards))
    yield running
    running.close()


def cors(response: httpx.Response) -> dict[str, str]:
    """Return the CORS fields and ``vary``, without their long prefix."""
    prefixes = ("access-control-", "vary")
    return {
        name.removeprefix("access-control-"): value for name, value in response.headers.items() if name.startswith(prefixes)
    }


async def ask(proxy: Proxy, method: str, path: str, origin: str | None = FOREIGN, **fields: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return await proxy.request(method, path, headers=headers if origin is None else {"origin": origin, **headers})


async def preflight(proxy: Proxy, path: str, method: str | None, *headers: str, origin: str = FOREIGN) -> httpx.Response:
    fields = {"origin": origin}
    if method is not None:
        fields["access-control-request-method"] = method
    if headers:
        fields["access-control-request-headers"] = ", ".join(headers)
    return await proxy.request("OPTIONS", path, headers=fields)


class TestAllowOrigin:
    """Rows ``allow.origin.*`` and ``reject.origin.*``."""

    async def test_wildcard(self, proxy: Proxy) -> None:
        response = await ask(proxy, "GET", "/any/items/1")
        assert (response.status_code, response.text) == (200, "apple")
        assert cors(response) == {"allow-origin": "*", "expose-headers": "*"}

    async def test_explicit(self, proxy: Proxy) -> None:
        response = await ask(proxy, "GET", "/listed/items/1")
        assert response.status_code == 200
        assert cors(response) == {"allow-origin": FOREIGN, "expose-headers": "*", "vary": "origin"}

    async def test_credentials(self, proxy: Proxy) -> None:
        response = await ask(proxy, "GET", "/credentials/items/1", cookie="access_token=TOKEN")
        assert response.status_code == 200
        assert cors(response) == {
            "allow-origin": FOREIGN,
            "allow-credentials": "true",
            "expose-headers": "etag",
            "vary": "origin",
        }

    @pytest.mark.parametrize("name", ["same", "any"])
    async def test_same_origin(self, proxy: Proxy, name: str) -> None:
        response = await ask(proxy, "POST", f"/{name}/items/2", OWN)
        assert response.status_code == 204
        assert cors(response) == {}

    async def test_omitted(self, proxy: Proxy) -> None:
        assert cors(await ask(proxy, "GET", "/same/items/1", None)) == {}
        for _ in range(2):  # the second one may be a kept answer
            response = await ask(proxy, "GET", "/any/items/1", None)
            assert cors(response) == {"allow-origin": "*", "expose-headers": "*"}
            assert cors(await ask(proxy, "GET", "/listed/items/1", None)) == {"vary": "origin"}

    @pytest.mark.parametrize(("name", "origin"), [("listed", OTHER), ("same", OTHER), ("same", FOREIGN), ("same", "null")])
    async def test_not_allowed(self, proxy: Proxy, name: str, origin: str) -> None:
        for method in ("GET", "DELETE"):
            response = await ask(proxy, method, f"/{name}/items/1", origin)
            assert response.status_code == 403
            assert response.headers["content-type"] == "application/problem+json"
            assert cors(response) == {"vary": "origin"}
        assert (await ask(proxy, "GET", f"/{name}/items/1", None)).text == "apple"

    @pytest.mark.parametrize("port", ["", ":443"])
    async def test_a_default_port_may_stand_or_not(self, proxy: Proxy, port: str) -> None:
        own = {"host": f"example.com{port}"}
        for origin in ("https://example.com", "https://example.com:443"):
            assert (await ask(proxy, "GET", "/same/items/1", origin, **own)).status_code == 200
        assert (await ask(proxy, "GET", "/same/items/1", "http://example.com", **own)).status_code == 403

    async def test_two_origins_are_refused(self, proxy: Proxy) -> None:
        response = await proxy.client.get("/credentials/items/1", headers=[("origin", FOREIGN), ("origin", OTHER)])
        assert response.status_code == 403

    async def test_what_stands_for_any(self, proxy: Proxy) -> None:
        assert cors(await ask(proxy, "GET", "/star/items/1", OTHER))["allow-origin"] == "*"


class TestPreflight:
    """Rows ``allow.methods.*``, ``allow.headers.*`` and ``reject.method.*``; and more, since every name is checked (D30)."""

    @pytest.mark.parametrize(("name", "cached"), [("any", {}), ("anycache", {"max-age": "10"})])
    async def test_wildcard(self, proxy: Proxy, name: str, cached: dict[str, str]) -> None:
        response = await preflight(proxy, f"/{name}/items/1", "DELETE", "X-Api-Key")
        assert (response.status_code, response.content) == (204, b"")
        assert cors(response) == {"allow-origin": "*", "allow-methods": "*", "allow-headers": "*"} | cached
        assert cors(await ask(proxy, "DELETE", f"/{name}/items/3")) == {"allow-origin": "*"}
        assert cors(await ask(proxy, "GET", f"/{name}/items/1", x_api_key="1"))["allow-origin"] == "*"

    @pytest.mark.parametrize(("name", "cached"), [("listed", {}), ("listedcache", {"max-age": "10"})])
    async def test_explicit(self, proxy: Proxy, name: str, cached: dict[str, str]) -> None:
        response = await preflight(proxy, f"/{name}/items/1", "DELETE", "X-Api-Key", "x-trace")
        assert response.status_code == 204
        assert (
            cors(response)
            == {
                "allow-origin": FOREIGN,
                "allow-methods": "DELETE",
                "allow-headers": "x-api-key, x-trace",
                "vary": "origin",
            }
            | cached
        )
        assert cors(await ask(proxy, "DELETE", f"/{name}/items/3")) == {"allow-origin": FOREIGN, "vary": "origin"}

    @pytest.mark.parametrize(("name", "cached"), [("credentials", {}), ("credentialscache", {"max-age": "10"})])
    async def test_credentials(self, proxy: Proxy, name: str, cached: dict[str, str]) -> None:
        response = await preflight(proxy, f"/{name}/items/1", "GET", "x-api-key")
        assert (
            cors(response)
            == {
                "allow-origin": FOREIGN,
                "allow-methods": "GET",
                "allow-headers": "x-api-key",
                "allow-credentials": "true",
                "vary": "origin",
            }
            | cached
        )

    @pytest.mark.parametrize(
        ("path", "method", "headers", "origin"),
        [
            ("/listed/items/1", "PATCH", (), FOREIGN),
            ("/listed/items/1", "DELETE", (), OTHER),
            ("/listed/items/1", "GET", ("x-other",), FOREIGN),
            ("/listed/items/1", "GET", ("x-api-key", "x-other"), FOREIGN),
            ("/listed/items/1", "GET", ("content-type", "x-api-key"), FOREIGN),
            ("/listed/items/1", "GET", ("last-event-id",), FOREIGN),
            ("/same/items/1", "GET", (), FOREIGN),
            ("/same/items/1", "GET", ("x-api-key",), "null"),
            ("/any/items/1", "GET", tuple(f"x-{number}" for number in range(101)), FOREIGN),
            ("/credentials/items/1", "GET", ("x-a\r\nset-cookie: a=b",), FOREIGN),
            ("/credentials/items/1", "GET", ("x a",), FOREIGN),
            ("/credentials/items/1", "GET\r\nset-cookie: a=b", (), FOREIGN),
            ("/credentials/items/1", "GET", (), f"{FOREIGN}\r\nset-cookie: a=b"),
            ("/credentials/items/1", "GET", (), f"{FOREIGN}/path"),
        ],
    )
    async def test_refused(self, proxy: Proxy, path: str, method: str, headers: tuple[str, ...], origin: str) -> None:
        response = await preflight(proxy, path, method, *headers, origin=origin)
        assert response.status_code == 403
        assert "allow-origin" not in cors(response)

    async def test_every_line_of_requested_fields_counts(self, proxy: Proxy) -> None:
        asked = [("origin", FOREIGN), ("access-control-request-method", "GET")]
        asked += [("access-control-request-headers", "x-api-key"), ("access-control-request-headers", "x-other")]
        assert (await proxy.client.request("OPTIONS", "/listed/items/1", headers=asked)).status_code == 403

    async def test_it_comes_before_routing_and_guards(self, proxy: Proxy) -> None:
        proxy.runtime.table.guards._guards.clear()  # type: ignore[union-attr]
        assert (await preflight(proxy, "/any/secret/1", "GET", "x-token")).status_code == 204
        assert (await preflight(proxy, "/any/items/1", "OPTIONS")).status_code == 204
        assert (await ask(proxy, "GET", "/any/secret/1")).status_code == 401

    async def test_a_path_of_no_route_is_the_sites(self, proxy: Proxy) -> None:
        assert (await preflight(proxy, "/elsewhere", "GET")).text == "the site"

    async def test_options_without_origin_is_an_ordinary_request(self, proxy: Proxy) -> None:
        response = await proxy.request("OPTIONS", "/any/items/1", headers={"access-control-request-method": "GET"})
        assert response.status_code == 405
        assert (await proxy.request("OPTIONS", "/any/items/1", headers={"origin": FOREIGN})).status_code == 405


class TestExpose:
    """Rows ``expose.headers.*``."""

    async def test_wildcard(self, proxy: Proxy) -> None:
        assert cors(await ask(proxy, "GET", "/any/items/1")) == {"allow-origin": "*", "expose-headers": "*"}

    async def test_explicit(self, proxy: Proxy) -> None:
        assert cors(await ask(proxy, "GET", "/expose/items/1")) == {"allow-origin": "*", "expose-headers": "etag"}


class TestErrorsCanBeRead:
    """What goes wrong is for the page to see, too."""

    async def test_problems_carry_the_fields(self, proxy: Proxy) -> None:
        for method, path, status in (
            ("GET", "/any/items/missing", 404),
            ("GET", "/any/secret/1", 401),
            ("PUT", "/any/secret/1", 405),
            ("PUT", "/any/items/%FF", 400),
        ):
            response = await ask(proxy, method, path)
            assert response.status_code == status
            assert cors(response)["allow-origin"] == "*"

    async def test_a_refused_origin_is_told_nothing_about_guards(self, proxy: Proxy) -> None:
        response = await ask(proxy, "GET", "/listed/secret/1", OTHER)
        assert response.status_code == 403
        assert "www-authenticate" not in response.headers

    async def test_guards_and_origin_share_one_vary(self, proxy: Proxy) -> None:
        response = await ask(proxy, "GET", "/listed/secret/1")
        assert response.status_code == 401
        assert sorted(response.headers["vary"].split(", ")) == ["origin", "x-token"]
        assert len(response.headers.get_list("vary")) == 1

    async def test_not_modified_is_allowed_too(self, proxy: Proxy) -> None:
        etag = (await ask(proxy, "GET", "/listed/items/1")).headers["etag"]
        for _ in range(2):
            response = await ask(proxy, "GET", "/listed/items/1", if_none_match=etag)
            assert response.status_code == 304
            assert cors(response)["allow-origin"] == FOREIGN


class TestStreams:
    """Resume and challenge work from another origin, whatever the policy lists."""

    async def test_what_a_stream_needs_is_allowed(self, proxy: Proxy) -> None:
        assert (await preflight(proxy, "/listed/events", "GET", "last-event-id")).status_code == 204
        answer = ("authorization", "content-type", "x-challenge-session", "x-token")
        response = await preflight(proxy, "/listed/guarded", "POST", *answer)
        assert response.status_code == 204
        assert cors(response)["allow-methods"] == "POST"
        assert cors(response)["allow-headers"] == ", ".join(answer)
        assert (await preflight(proxy, "/listed/guarded", "POST", "x-other")).status_code == 403
        assert (await preflight(proxy, "/listed/guarded", "PUT", *answer)).status_code == 403
        assert (await preflight(proxy, "/listed/guarded", "POST", *answer, origin=OTHER)).status_code == 403


class TestTheSitesSettings:
    """A gateway without a policy of its own follows django-cors-headers."""

    async def test_without_any_settings_nothing_is_added_and_nobody_refused(self, proxy: Proxy) -> None:
        response = await ask(proxy, "GET", "/none/items/1")
        assert (response.status_code, cors(response)) == (200, {})
        asked = await preflight(proxy, "/none/items/1", "GET", "x-api-key")
        assert (asked.status_code, cors(asked)) == (204, {})

    async def test_listed_origins(self, proxy: Proxy) -> None:
        with override_settings(CORS_ALLOWED_ORIGINS=[FOREIGN], CORS_EXPOSE_HEADERS=["ETag"]):
            assert cors(await ask(proxy, "GET", "/none/items/1")) == {
                "allow-origin": FOREIGN,
                "expose-headers": "etag",
                "vary": "origin",
            }
            assert (await ask(proxy, "GET", "/none/items/1", OTHER)).status_code == 403
            assert cors(await ask(proxy, "GET", "/none/items/1", None)) == {"vary": "origin"}
            asked = await preflight(proxy, "/none/items/1", "PATCH", "x-requested-with", "authorization")
            assert cors(asked) == {
                "allow-origin": FOREIGN,
                "allow-methods": "PATCH",
                "allow-headers": "x-requested-with, authorization",
                "max-age": "86400",
                "vary": "origin",
            }
            assert (await preflight(proxy, "/none/items/1", "PURGE")).status_code == 403
            assert (await preflight(proxy, "/none/items/1", "GET", "x-requested-with", "x-other")).status_code == 403
            assert (await preflight(proxy, "/none/events", "GET", "last-event-id")).status_code == 204
        assert cors(await ask(proxy, "GET", "/none/items/1")) == {}

    async def test_patterns_credentials_and_everything(self, proxy: Proxy) -> None:
        with override_settings(CORS_ALLOWED_ORIGIN_REGEXES=[r"^https://\w+\.net:9090$"], CORS_ALLOW_CREDENTIALS=True):
            named = cors(await ask(proxy, "GET", "/none/items/1"))
            assert (named["allow-origin"], named["allow-credentials"]) == (FOREIGN, "true")
            assert (await ask(proxy, "GET", "/none/items/1", OTHER)).status_code == 403
        with override_settings(CORS_ALLOW_ALL_ORIGINS=True, CORS_ALLOW_HEADERS=["*"], CORS_PREFLIGHT_MAX_AGE=0):
            assert cors(await ask(proxy, "GET", "/none/items/1", OTHER)) == {"allow-origin": "*"}
            asked = cors(await preflight(proxy, "/none/items/1", "GET", "x-whatever"))
            assert asked == {"allow-origin": "*", "allow-methods": "GET", "allow-headers": "*"}

    async def test_only_for_the_paths_that_they_are_for(self, proxy: Proxy) -> None:
        with override_settings(CORS_ALLOWED_ORIGINS=[FOREIGN], CORS_URLS_REGEX=r"^/api/.*$"):
            assert cors(await ask(proxy, "GET", "/none/items/1")) == {}
            assert (await ask(proxy, "GET", "/none/items/1", OTHER)).status_code == 200

    @pytest.mark.parametrize("path", ["/none/items/1", "/none/items/1%0A2", "/none/items/%0a", "/none/items/%E2%80%A8"])
    async def test_no_spelling_of_a_path_escapes_them(self, proxy: Proxy, path: str) -> None:
        with override_settings(CORS_ALLOWED_ORIGINS=[FOREIGN], CORS_URLS_REGEX=r"^/none/.*$"):
            assert (await ask(proxy, "GET", path, OTHER)).status_code == 403

    async def test_a_gateway_with_a_policy_does_not_look_at_them(self, proxy: Proxy) -> None:
        with override_settings(CORS_ALLOW_ALL_ORIGINS=True):
            assert (await ask(proxy, "GET", "/same/items/1")).status_code == 403


class TestBehindAProxy:
    """What the site trusts of a proxy in front says where a request arrived."""

    async def test_the_scheme(self, proxy: Proxy) -> None:
        insecure = httpx.AsyncClient(transport=httpx.ASGITransport(app=proxy.app), base_url="http://example.com")
        headers = {"origin": "https://example.com", "x-forwarded-proto": "https"}
        async with insecure:
            assert (await insecure.get("/same/items/1", headers=headers)).status_code == 403
            with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
                assert (await insecure.get("/same/items/1", headers=headers)).status_code == 200
                headers["x-forwarded-proto"] = "http"
                assert (await insecure.get("/same/items/1", headers=headers)).status_code == 403

    async def test_the_host(self, proxy: Proxy) -> None:
        headers = {"x_forwarded_host": "public.example"}
        assert (await ask(proxy, "GET", "/same/items/1", "https://public.example", **headers)).status_code == 403
        with override_settings(USE_X_FORWARDED_HOST=True):
            assert (await ask(proxy, "GET", "/same/items/1", "https://public.example", **headers)).status_code == 200
            assert (await ask(proxy, "GET", "/same/items/1", OWN, **headers)).status_code == 403


async def test_the_gateway_of_the_requests_own_host_answers_a_preflight(
    kafka: Cluster, topic: TopicFactory, tmp_path: Path
) -> None:
    items = topic(name="items")

    def at(authority: str, policy: AccessControl) -> Entry:
        condition = EntryCondition(authority=PathTemplate.parse(authority))
        route = fetch("/items", topic=items, merge=True)
        return Entry(name="all", levels=((condition,),), guarded=(), routes=(route,))

    gateways = [
        replace(gateway(name=name, access_control=policy), entries=(at(authority, policy),))
        for name, authority, policy in (("one", "one.example:443", CREDENTIALS), ("two", "two.example:443", LISTED))
    ]
    running = Proxy(tmp_path, configuration(kafka.bootstrap, *gateways))
    asked = {"origin": OTHER, "access-control-request-method": "GET"}
    try:
        for host, status in (("one.example", 204), ("two.example", 403), ("three.example", 299)):
            response = await running.request("OPTIONS", "/items", headers={**asked, "host": host})
            assert response.status_code == status
    finally:
        running.close()
