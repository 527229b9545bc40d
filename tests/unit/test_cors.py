"""CORS as a pure function. The conformance tests have the rows of the reference, ``tests/browser/test_cors.py`` a browser."""

from __future__ import annotations

import pytest

from kafkaproxy.core.cors import CorsPolicy, Fields, Preflight, normal_origin, origin_in, with_vary

OWN = "https://api.example.com"
SHOP = "https://shop.example.com"
EVIL = "https://evil.example"

ANY = CorsPolicy(cross_origin=True)
SAME = CorsPolicy(cross_origin=False)
LISTED = CorsPolicy(
    cross_origin=True,
    origins=origin_in([SHOP]),
    methods=frozenset({"GET", "DELETE"}),
    headers=frozenset({"x-api-key", "x-two"}),
)
CREDENTIALS = CorsPolicy(cross_origin=True, credentials=True)


def preflight(
    policy: CorsPolicy, origin: str = SHOP, method: str | None = "GET", *headers: str, **more: object
) -> Fields | None:
    asked = Preflight(method=method, headers=headers, **more)  # type: ignore[arg-type]
    return policy.preflight(asked, origin, OWN)


def added(policy: CorsPolicy, origin: str | None = SHOP, fields: Fields | None = None) -> dict[str, str]:
    before: Fields = [(b"content-type", b"text/plain")] if fields is None else fields
    after = policy.added(list(before), origin, OWN)
    assert after[: len(before)] == [each for each in before if each[0] != b"vary"]
    return {name.decode(): value.decode() for name, value in after if (name, value) not in before}


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("https://Example.COM", "https://example.com"),
        ("HTTPS://example.com:443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("https://example.com:8443", "https://example.com:8443"),
        ("https://[::1]:443", "https://[::1]"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("null", "null"),
        ("NULL", None),
        ("", None),
        ("*", None),
        ("example.com", None),
        ("https://", None),
        ("https://example.com/", None),
        ("https://example.com/path", None),
        ("https://user@example.com", None),
        ("https://example.com:port", None),
        ("https://a b", None),
        ("https://a\r\nx: y", None),
        ("https://example.com, https://evil.example", None),
        ("https://exämple.com", None),
    ],
)
def test_origins_are_compared_in_one_spelling(written: str, normal: str | None) -> None:
    assert normal_origin(written) == normal


class TestActualRequests:
    """The fields of responses, and origins that are refused."""

    @pytest.mark.parametrize(
        ("policy", "origin", "allowed"),
        [
            (SAME, OWN, True),
            (SAME, OWN + ":443", True),
            (SAME, SHOP, False),
            (SAME, "http://api.example.com", False),
            (SAME, OWN + ":8443", False),
            (SAME, "null", False),
            (SAME, "", False),
            (ANY, SHOP, True),
            (ANY, "null", True),
            (ANY, "nonsense", True),
            (LISTED, OWN, True),
            (LISTED, SHOP, True),
            (LISTED, SHOP + ":443", True),
            (LISTED, SHOP.upper(), True),
            (LISTED, SHOP + ":444", False),
            (LISTED, EVIL, False),
            (LISTED, SHOP + ".evil.example", False),
            (LISTED, "https://evilshop.example.com", False),
            (LISTED, "null", False),
            (CREDENTIALS, EVIL, True),
            (CREDENTIALS, "null", True),
            (CREDENTIALS, "x\x00y", False),
        ],
    )
    def test_which_origins_are_allowed(self, policy: CorsPolicy, origin: str, allowed: bool) -> None:
        assert policy.allows(origin, OWN) is allowed

    def test_same_origin_adds_nothing(self) -> None:
        assert added(SAME, OWN) == added(SAME, None) == {}

    def test_any_origin_is_a_star_even_without_an_origin_and_never_varies(self) -> None:
        assert added(ANY) == added(ANY, None) == {"access-control-allow-origin": "*"}
        assert added(ANY, OWN) == {}

    def test_a_listed_origin_is_named_and_every_answer_varies(self) -> None:
        assert added(LISTED) == {"access-control-allow-origin": SHOP, "vary": "origin"}
        assert added(LISTED, None) == added(LISTED, OWN) == {"vary": "origin"}

    def test_credentials_name_the_origin(self) -> None:
        named = {"access-control-allow-origin": EVIL, "access-control-allow-credentials": "true", "vary": "origin"}
        assert added(CREDENTIALS, EVIL) == named

    def test_an_answer_that_allows_an_origin_by_itself_is_left_alone(self) -> None:
        own: Fields = [(b"access-control-allow-origin", b"https://x.example"), (b"x-y", b"1")]
        for policy in (ANY, LISTED, CREDENTIALS):
            assert added(policy, fields=own) == {}

    def test_fields_are_exposed(self) -> None:
        fields: Fields = [(b"content-type", b"x"), (b"etag", b'"1"'), (b"x-a", b"1"), (b"x-a", b"2"), (b"cache-control", b"x")]
        star = {"access-control-allow-origin": "*"}
        assert added(ANY, fields=fields) == star | {"access-control-expose-headers": "*"}
        listed = CorsPolicy(cross_origin=True, exposed=frozenset({b"x-a", b"x-missing"}))
        assert added(listed, fields=fields) == star | {"access-control-expose-headers": "x-a"}
        assert added(CREDENTIALS, fields=fields)["access-control-expose-headers"] == "etag, x-a"
        assert added(CorsPolicy(cross_origin=True, exposed=frozenset()), fields=fields) == star

    def test_what_the_answer_varies_on_already_stays(self) -> None:
        after = LISTED.added([(b"vary", b"authorization, Cookie"), (b"vary", b"accept")], SHOP, OWN)
        assert [value for name, value in after if name == b"vary"] == [b"authorization, Cookie, accept, origin"]


class TestPreflights:
    """Every field and the method are checked."""

    def test_any(self) -> None:
        assert preflight(ANY, SHOP, "DELETE", "x-one", "x-two") == [
            (b"access-control-allow-origin", b"*"),
            (b"access-control-allow-methods", b"*"),
            (b"access-control-allow-headers", b"*"),
        ]

    def test_the_star_does_not_stand_for_authorization(self) -> None:
        fields = dict(preflight(ANY, SHOP, "GET", "x-one", "authorization") or [])
        assert fields[b"access-control-allow-headers"] == b"*, authorization"

    def test_listed(self) -> None:
        assert preflight(LISTED, SHOP, "DELETE", "x-two", "x-api-key") == [
            (b"access-control-allow-origin", SHOP.encode()),
            (b"access-control-allow-methods", b"DELETE"),
            (b"access-control-allow-headers", b"x-two, x-api-key"),
            (b"vary", b"origin"),
        ]

    def test_credentials_and_max_age_are_said(self) -> None:
        policy = CorsPolicy(cross_origin=True, credentials=True, max_age=10)
        assert preflight(policy, SHOP, "PUT", "x-one") == [
            (b"access-control-allow-origin", SHOP.encode()),
            (b"access-control-allow-methods", b"PUT"),
            (b"access-control-allow-headers", b"x-one"),
            (b"access-control-max-age", b"10"),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"origin"),
        ]

    @pytest.mark.parametrize(
        ("origin", "method", "headers"),
        [
            (EVIL, "GET", ()),
            ("null", "GET", ()),
            (SHOP, "PATCH", ()),
            (SHOP, "get", ()),
            (SHOP, "", ()),
            (SHOP, "GET", ("x-three",)),
            (SHOP, "GET", ("x-api-key", "x-three")),
            (SHOP, "GET", ("x-three", "x-api-key")),
            (SHOP, "GET", ("x-api-key", "content-type")),
            (SHOP, "GET", ("authorization",)),
            (SHOP, "GET", ("x-api-keys",)),
            (SHOP, "GET", ("s-x-api-key",)),
        ],
    )
    def test_what_is_not_listed_is_refused(self, origin: str, method: str, headers: tuple[str, ...]) -> None:
        assert preflight(LISTED, origin, method, *headers) is None

    def test_safelisted_fields_need_no_permission(self) -> None:
        assert preflight(LISTED, SHOP, "GET", "accept", "accept-language", "content-language") is not None

    def test_only_what_was_asked_for_is_said(self) -> None:
        assert dict(preflight(LISTED, SHOP, None, "x-two") or []).keys() == {
            b"access-control-allow-origin",
            b"access-control-allow-headers",
            b"vary",
        }
        assert b"access-control-allow-headers" not in dict(preflight(LISTED, SHOP, "GET") or [])

    def test_what_a_route_needs_is_allowed_whatever_is_listed(self) -> None:
        needed = {"needed_headers": frozenset({"last-event-id"}), "needed_methods": frozenset({"POST"})}
        assert preflight(LISTED, SHOP, "POST", "last-event-id", **needed) is not None
        assert preflight(LISTED, SHOP, "POST", "last-event-id", "x-three", **needed) is None
        assert preflight(LISTED, EVIL, "POST", "last-event-id", **needed) is None

    def test_same_origin_refuses_foreigners_and_needs_nothing_itself(self) -> None:
        assert preflight(SAME, SHOP) is None
        assert preflight(SAME, OWN) == []

    def test_a_private_network_is_only_opened_where_the_site_says_so(self) -> None:
        policy = CorsPolicy(cross_origin=True, private_network=True)
        assert (b"access-control-allow-private-network", b"true") in (preflight(policy, private_network=True) or [])
        assert (b"access-control-allow-private-network", b"true") not in (preflight(policy) or [])
        assert (b"access-control-allow-private-network", b"true") not in (preflight(ANY, private_network=True) or [])


def test_vary_is_one_line_and_names_nothing_twice() -> None:
    assert with_vary([], []) == []
    assert with_vary([(b"a", b"b")], ["cookie"]) == [(b"a", b"b"), (b"vary", b"cookie")]
    assert with_vary([(b"vary", b"cookie, origin")], ["origin", "x"]) == [(b"vary", b"cookie, origin, x")]
