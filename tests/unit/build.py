"""Configurations in the database, for tests."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from kafkaproxy.models import (
    AccessControl,
    AsyncField,
    Cluster,
    Condition,
    Entry,
    EntryCondition,
    EntryGuard,
    Filter,
    Gateway,
    Guard,
    Override,
    Route,
    RouteGuard,
    Topic,
)
from kafkaproxy.routing.announce import touch

__all__ = ["add_route", "everything", "gateway", "many_routes"]


def gateway(name: str = "g", **fields: Any) -> Entry:
    """Make a gateway with its entry, and its cluster where none is given; return the entry."""
    if "cluster" not in fields:
        fields["cluster"], _ = Cluster.objects.get_or_create(name="main", defaults={"bootstrap_servers": "broker:9092"})
    return Gateway.objects.create_with_entry(name=name, **fields).ensure_entry()


@transaction.atomic
def add_route(entry: Entry, name: str = "r", *paths: str, method: str = "GET", **fields: Any) -> Route:
    """Make a route with a condition for each path."""
    route = Route.objects.create(entry=entry, name=name, **{"capability": "fetch", "topic": "items", **fields})
    for path in paths:
        Condition.objects.create(route=route, method=method, path=path)
    return route


@transaction.atomic
def many_routes(entry: Entry, count: int) -> None:
    """Make ``count`` routes with a condition, a filter and a guard each."""
    guard, _ = Guard.objects.get_or_create(name="jwt")
    routes = Route.objects.bulk_create(
        Route(entry=entry, name=f"r{n}", position=n, capability="fetch", topic=f"t{n}") for n in range(count)
    )
    Condition.objects.bulk_create(Condition(route=each, position=0, path=f"/t{n}/{{id}}") for n, each in enumerate(routes))
    Filter.objects.bulk_create(Filter(route=each, position=0, key="${params.id}") for each in routes)
    RouteGuard.objects.bulk_create(RouteGuard(route=each, guard=guard) for each in routes)
    touch()


@transaction.atomic
def everything() -> None:
    """Make at least one row of every model, each field with a value of its own."""
    guard = Guard.objects.create(
        name="jwt", options={"issuer": "${{env.ISSUER}}", "audience": "shop", "keys": [{"kid": "${{env.KID}}"}]}
    )
    cluster = Cluster.objects.create(
        name="main",
        bootstrap_servers="${{env.SERVERS}}, other:9092 ,",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="me",
        sasl_password="${{env.SECRET}}",
        ssl_ca="/etc/ca.pem",
        options={"client.rack": "${{env.RACK}}", "linger.ms": 5, "sasl.username": "you"},
    )
    second = Cluster.objects.create(name="second", bootstrap_servers="second:9092")
    Topic.objects.create(cluster=cluster, name="items", default_offset="live", cleanup_policy="compact", store_bytes=1000)
    Topic.objects.create(cluster=cluster, name="boot", bootstrap=True, sensitive=True)
    gateway = Gateway.objects.create(
        name="shop",
        cluster=cluster,
        idempotency_header="Idempotency-Key",
        reply_to_header="x:reply",
        correlation_header="x:cid",
        forwarded_fields=["Accept", "x-a"],
        dropped_fields=["X-Secret"],
        forward_credentials=True,
        guard=guard,
        credentials_cookies={"Token": "{credentials}"},
        credentials_headers={"Authorization": "Bearer {credentials}"},
        credentials_query={"Token": "{credentials}"},
    )
    AccessControl.objects.create(
        gateway=gateway,
        policy="cross-origin",
        allow_origins=["https://${{env.HOST}}"],
        allow_methods=["PUT"],
        allow_headers=["X-A"],
        allow_credentials=True,
        max_age=60,
        expose_headers=["ETag"],
    )
    _entries(gateway, guard, second)


def _entries(gateway: Gateway, guard: Guard, second: Cluster) -> None:
    api = Entry.objects.create(gateway=gateway, name="api")
    EntryCondition.objects.create(
        entry=api,
        scheme="https",
        authority="${{env.HOST}}:443",
        path="/api/*",
        method="*",
        headers={"Content-Type": "application/json*"},
    )
    EntryCondition.objects.create(entry=api, level=1, path="/api/items/{x}", method="PUT")
    EntryCondition.objects.create(entry=api, level=1, path="/api/items", method="POST")
    EntryGuard.objects.create(entry=api, guard=guard, roles=["write", "${{env.ROLE}}"])
    put = Route.objects.create(
        entry=api,
        name="put",
        capability="produce",
        topic="${{env.STAGE}}-requests",
        key="${params.id}",
        acks="leader_only",
        reply_to="replies",
        correlation_header="x:own",
        timeout=7,
    )
    Condition.objects.create(route=put, method="PUT", path="/api/items/{id}")
    Condition.objects.create(route=put, method="GET", path="/api/items/{id};cid={correlationId}")
    Override.objects.create(route=put, name="x:who", value="${guarded['jwt'].identity}")
    Override.objects.create(route=put, name="x:stage", value="${{env.STAGE}}")
    AsyncField.objects.create(route=put, value="/api/items/${params.id};cid=${correlationId}")
    rest = Entry.objects.create(gateway=gateway, name="rest")
    get = Route.objects.create(entry=rest, name="get", capability="fetch", topic="items", merge=True, cache_control="max-age=5")
    Filter.objects.create(route=get, key="fixed", headers={"x:who": "${guarded['jwt'].attributes.tenant}"})
    Filter.objects.create(route=get, headers={"x:public": "true"})
    RouteGuard.objects.create(route=get, guard=guard, roles=["read"])
    Route.objects.create(
        entry=rest,
        name="stream",
        capability="stream",
        cluster=second,
        topic="items",
        event_id="key_and_etag",
        start="timestamp",
        start_timestamp="2026-01-02T03:04:05.678Z",
        encoding="base64",
    )
