"""What a route and an entry do, in words."""

from __future__ import annotations

from typing import Any

import pytest

from kafkaproxy.admin.forms.drafts import draft_entry, draft_route
from kafkaproxy.admin.forms.words import entry_sentence, route_sentence
from kafkaproxy.models import (
    AsyncField,
    Condition,
    Entry,
    EntryCondition,
    EntryGuard,
    Filter,
    Guard,
    Override,
    Route,
    RouteGuard,
)

PUT = Condition(method="PUT", path="/items/{id}")
ITEM = Condition(method="GET", path="/items/{id}")
JWT = Guard(pk=1, name="jwt")
LOCATION = AsyncField(name="location", value="/items/${params.id};cid=${correlationId}")
POLL = Condition(method="GET", path="/items/{id};cid={correlationId}")


def _route(capability: str, topic: str, **fields: Any) -> str:
    rows = {name: fields.pop(name, []) for name in ("conditions", "overrides", "filters", "async_fields", "guarded")}
    return route_sentence(draft_route(Route(name="r", capability=capability, topic=topic, **fields), rows))


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        (
            "PUT /items/{id} → topic t, key = id, waits for replies",
            {"conditions": [PUT], "key": "${params.id}", "reply_to": "replies"},
        ),
        (
            "PUT /items/{id} → topic t, key = “item-{id}”, answers 204 once Kafka has it",
            {"conditions": [PUT], "key": "item-${params.id}"},
        ),
        ("POST/PUT/PATCH/DELETE any path → topic t, no key, answers 204 once Kafka has it", {}),
        (
            (
                "PUT /items/{id} → topic t, no key, waits for replies, or answers 202 to clients that ask for it, "
                "outcome at GET /items/{id};cid={correlationId}"
            ),
            {"conditions": [PUT, POLL], "reply_to": "replies", "async_fields": [LOCATION]},
        ),
        (
            "PUT /items/{id} → topic t, key = identity of jwt, answers 204 once Kafka has it, only for jwt with a, b",
            {"conditions": [PUT], "key": "${guarded['jwt'].identity}", "guarded": [RouteGuard(guard=JWT, roles=["a", "b"])]},
        ),
        ("PUT /items/{id} → topic t, key = “fixed”, answers 204 once Kafka has it", {"conditions": [PUT], "key": "fixed"}),
        (
            "PUT /items/{id} → topic t, key = idempotency key, answers 204 once Kafka has it",
            {"conditions": [PUT], "key": "${idempotencyKey}"},
        ),
        ("PUT /items/{id} → topic t, key = ${params, answers 204 once Kafka has it", {"conditions": [PUT], "key": "${params"}),
    ],
)
def test_a_produce_route_is_described(said: str, fields: dict[str, Any]) -> None:
    assert _route("produce", "t", **fields) == said


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        (
            "GET /items/{id} → the newest record of t with key = id",
            {"conditions": [ITEM], "filters": [Filter(key="${params.id}")]},
        ),
        ("GET /items/{id} → all records of t as one JSON array", {"conditions": [ITEM], "merge": True}),
        (
            "GET any path → the newest record of t with key = “a” and kind = tenant of jwt or kind = “x”",
            {
                "filters": [
                    Filter(key="a", headers={"kind": "${guarded['jwt'].attributes.tenant}"}),
                    Filter(headers={"kind": "x"}),
                ]
            },
        ),
        ("HEAD /items/{id} → the newest record of t", {"conditions": [Condition(method="HEAD", path="/items/{id}")]}),
    ],
)
def test_a_fetch_route_is_described(said: str, fields: dict[str, Any]) -> None:
    assert _route("fetch", "t", **fields) == said


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("GET any path → event stream of t, from the earliest", {}),
        ("GET any path → event stream of t with key = “a”, from the latest", {"filters": [Filter(key="a")], "start": "latest"}),
        ("GET any path → event stream of t, from a point in time", {"start": "timestamp"}),
    ],
)
def test_a_stream_route_is_described(said: str, fields: dict[str, Any]) -> None:
    assert _route("stream", "t", **fields) == said


def test_a_topic_that_varies_is_described_by_its_parts() -> None:
    assert "topic orders-{id}," in _route("produce", "orders-${params.id}")
    assert "topic ${{env.TOPIC}}," in _route("produce", "${{env.TOPIC}}")


def test_there_is_no_sentence_without_a_capability() -> None:
    assert _route("", "t") == ""
    assert _route("produce", "t", overrides=[Override(name="a", value="b")])


def test_an_entry_is_described() -> None:
    assert entry_sentence(draft_entry(Entry(name="all"), {"conditions": [], "guarded": []})) == "every request"
    conditions = [
        EntryCondition(method="GET", scheme="https", authority="a.example:443", path="/x/*", headers={"x-env": "prod"}),
        EntryCondition(authority="b.example:80"),
        EntryCondition(level=1, path="/x/y"),
    ]
    rows = {"conditions": conditions, "guarded": [EntryGuard(guard=JWT, roles=[])]}
    said = "GET https://a.example:443/x/* x-env: prod or b.example:80 and /x/y, only for jwt"
    assert entry_sentence(draft_entry(Entry(name="all"), rows)) == said
