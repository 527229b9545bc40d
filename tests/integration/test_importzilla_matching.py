"""What an imported configuration serves and what it does not: order, barriers, narrowing and guards, through the real table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kafkaproxy.routing.compile import load_configuration
from kafkaproxy.routing.matching import Match, Matcher, NotAllowed, Refused
from kafkaproxy.zilla.sync.apply import apply_plan
from tests.support.zilla_samples import BASE, SSE, edited, planned

pytestmark = pytest.mark.django_db

_PRIVATE = "        guarded: {jwt: [admin]}\n        exit: items\n"
_PUBLIC = """\
  public:
    type: http-kafka
    kind: proxy
    routes:
      - when:
          - method: GET
            path: /items/{public}
        exit: cache_client
        with: {capability: fetch, topic: public-items}
"""
_GUARD = "guards:\n  jwt:\n    type: jwt\n    options: {issuer: 'https://a.example', audience: b}\n"


@dataclass
class _Request:
    method: str
    path: str
    scheme: str = "http"
    authority: str = "example.com:80"
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass
class _Client:
    roles: Collection[str]
    identity: str = "me"
    attributes: Mapping[str, str] = field(default_factory=dict)

    def holds(self, roles: Collection[str]) -> bool:
        return set(roles) <= set(self.roles)


def _imported(text: str) -> Matcher:
    apply_plan(planned(text, environ={"BROKERS": "a:1"})[0])
    return Matcher(load_configuration())


def _outcome(matcher: Matcher, request: _Request, roles: Collection[str] | None = None) -> str:
    """Return the route that serves the request, or how it is turned away."""
    candidates = matcher.find(request.path)
    if not candidates:
        return "not ours"
    principals = {} if roles is None else {"jwt": _Client(roles)}
    match matcher.resolve(candidates, request, principals):
        case Match(route=route):
            return route.name
        case Refused():
            return "refused"
        case NotAllowed(allow=allow):
            return f"only {','.join(sorted(allow))}"
        case _:
            return "not ours"


def test_a_path_that_the_outer_rule_does_not_take_is_not_served() -> None:
    matcher = _imported(edited(BASE, (":path: /items/*", ":path: /items/a*")))
    assert _outcome(matcher, _Request("GET", "/items/apple")) == "get-items-id"
    assert _outcome(matcher, _Request("GET", "/items/pear")) == "not ours"


def test_the_topic_that_a_client_names_is_limited_by_the_outer_path() -> None:
    matcher = _imported(SSE)
    assert _outcome(matcher, _Request("GET", "/live/events")) == "stream-live-topic"
    assert _outcome(matcher, _Request("GET", "/live/secrets")) == "not ours"


def test_requests_of_a_barrier_are_not_served_by_a_wider_rule() -> None:
    matcher = _imported(SSE)
    assert _outcome(matcher, _Request("POST", "/other")) == "post-any"
    assert _outcome(matcher, _Request("POST", "/live/other")) == "not ours"
    assert _outcome(matcher, _Request("POST", "/live/events")) == "only GET"


def test_requests_of_a_binding_that_is_not_imported_are_not_served_by_a_wider_rule() -> None:
    text = edited(BASE, ("        exit: items\n", "        exit: side\n      - exit: items\n"))
    matcher = _imported(text + "  side:\n    type: http-filesystem\n    kind: proxy\n")
    assert _outcome(matcher, _Request("GET", "/items/1")) == "not ours"


@pytest.mark.parametrize(
    ("condition", "served", "refused"),
    [
        (":method: PUT", _Request("PUT", "/items/1"), _Request("GET", "/items/1")),
        (":scheme: https", _Request("GET", "/items/1", scheme="https"), _Request("GET", "/items/1")),
        (
            ":authority: localhost:8080",
            _Request("GET", "/items/1", authority="localhost:8080"),
            _Request("GET", "/items/1", authority="localhost:8081"),
        ),
        (
            "content-type: application/json",
            _Request("GET", "/items/1", fields=[(b"content-type", b"application/json")]),
            _Request("GET", "/items/1", fields=[(b"content-type", b"application/json; charset=utf-8")]),
        ),
        ("x-tenant: '*'", _Request("GET", "/items/1", fields=[(b"x-tenant", b"a")]), _Request("GET", "/items/1")),
    ],
)
def test_every_part_of_a_condition_narrows(condition: str, served: _Request, refused: _Request) -> None:
    matcher = _imported(edited(BASE, (":path: /items/*", condition)))
    assert _outcome(matcher, served) != "not ours"
    assert _outcome(matcher, refused) == "not ours"


def test_a_server_name_narrows_too() -> None:
    text = edited(BASE, ("    exit: http\n", "    exit: tls\n"))
    text += "  tls:\n    type: tls\n    kind: server\n    vault: v\n    options: {keys: [a]}\n"
    text += "    routes:\n      - when: [{authority: shop.example}]\n        exit: http\n"
    matcher = _imported(text)
    assert _outcome(matcher, _Request("GET", "/items/1", "https", "shop.example:443")) == "get-items-id"
    assert _outcome(matcher, _Request("GET", "/items/1", "https", "other.example:443")) == "not ours"
    assert _outcome(matcher, _Request("GET", "/items/1", "http", "shop.example:80")) == "not ours"


def test_a_parameter_of_an_outer_path_takes_deeper_paths_too_so_that_they_do_not_reach_a_wider_rule() -> None:
    text = edited(
        BASE, (":path: /items/*\n        exit: items\n", ":path: /items/{id}\n        exit: side\n      - exit: items\n")
    )
    text = text.replace("path: /items/{id}\n        exit: cache", "path: /items*\n        exit: cache").replace(
        "${params.id}", "all"
    )
    matcher = _imported(text + "  side:\n    type: echo\n    kind: server\n")
    assert _outcome(matcher, _Request("GET", "/items")) == "get-items-any"
    assert _outcome(matcher, _Request("GET", "/items/1")) == "not ours"
    assert _outcome(matcher, _Request("GET", "/items/1/2")) == "not ours"


def test_guards_of_every_level_have_to_pass() -> None:
    text = edited(
        SSE,
        ("        exit: sse\n", "        guarded: {jwt: [web]}\n        exit: sse\n"),
        ("        exit: streams\n", "        guarded: {jwt: [stream]}\n        exit: streams\n"),
        (
            "        with:\n          topic: ${params",
            "        guarded: {jwt: [read]}\n        with:\n          topic: ${params",
        ),
        ("      - exit: items\n", ""),
    )
    matcher = _imported(text + _GUARD)
    request = _Request("GET", "/live/events")
    assert _outcome(matcher, request, roles=["web", "stream", "read"]) == "stream-live-topic"
    for missing in ("web", "stream", "read"):
        assert _outcome(matcher, request, roles={"web", "stream", "read"} - {missing}) == "refused"
    assert _outcome(matcher, request) == "refused"


def test_who_is_turned_away_by_a_guard_is_tried_with_the_next_rule_as_in_the_reference() -> None:
    text = edited(BASE, ("        exit: items\n", _PRIVATE + "      - exit: public\n"))
    matcher = _imported(text + _PUBLIC + _GUARD)
    request = _Request("GET", "/items/1")
    assert _outcome(matcher, request, roles=["admin"]) == "get-items-id"
    assert _outcome(matcher, request) == "get-items-public"


def test_all_samples_answer_at_their_own_paths() -> None:
    for name in ("crud", "cache", "oneway", "sync", "async", "sse"):
        path = Path(__file__).parents[2] / "fixtures" / f"{name}.yaml"
        apply_plan(planned(path.read_text(), environ={})[0])
    matcher = Matcher(load_configuration())
    expected = {
        ("POST", "/items"): "post-items",
        ("PUT", "/items/1"): "put-items-id",
        ("DELETE", "/items/1"): "put-items-id",
        ("GET", "/items"): "get-items",
        ("HEAD", "/items/1"): "get-items-id",
        ("GET", "/cache/items/1"): "get-cache-items-id",
        ("POST", "/events"): "post-events",
        ("POST", "/events/shop"): "post-events-source",
        ("PUT", "/sync/items/1"): "get-sync-items-id",
        ("PUT", "/async/items/1"): "put-async-items-id",
        ("GET", "/async/items/1;cid=abc"): "put-async-items-id",
        ("GET", "/stream"): "stream-stream",
        ("GET", "/stream/shop"): "stream-stream-source",
        ("PATCH", "/items/1"): "only DELETE,GET,HEAD,PUT",
        ("GET", "/"): "not ours",
    }
    for scheme, authority in (("http", "localhost:8000"), ("https", "demo.example:443")):
        found = {(method, path): _outcome(matcher, _Request(method, path, scheme, authority)) for method, path in expected}
        assert found == expected
