"""Routes of an entry as those of an http-kafka or sse-kafka binding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafkaproxy.specs.types import EntrySpec, GatewaySpec, RouteSpec

__all__ = ["guarded_of", "mapping_binding"]

_KEYED_EVENT: Final = '["${base64(key)}","${etag}"]'

Tree = dict[str, Any]


def mapping_binding(entry: EntrySpec, gateway: GatewaySpec, exits: Mapping[str, str]) -> Tree:
    """Return the binding with the entry's routes, which are all of one kind."""
    streams = entry.routes[0].capability == "stream"
    options = {} if streams else _options(gateway)
    binding: Tree = {"type": "sse-kafka" if streams else "http-kafka", "kind": "proxy"}
    if options:
        binding["options"] = options
    return {**binding, "routes": [_route(each, gateway, exits) for each in entry.routes]}


def guarded_of(guarded: Mapping[str, tuple[str, ...]]) -> Tree:
    """Return ``guarded`` of a route; nothing where nothing is guarded."""
    return {"guarded": {guard: list(roles) for guard, roles in guarded.items()}} if guarded else {}


def _options(gateway: GatewaySpec) -> Tree:
    options: Tree = {}
    if gateway.idempotency_header != "idempotency-key":
        options["idempotency"] = {"header": gateway.idempotency_header}
    headers = {"reply-to": gateway.reply_to_header, "correlation-id": gateway.correlation_header}
    if headers != {"reply-to": "zilla:reply-to", "correlation-id": "zilla:correlation-id"}:
        options["correlation"] = {"headers": headers}
    return options


def _route(plan: RouteSpec, gateway: GatewaySpec, exits: Mapping[str, str]) -> Tree:
    when = [_filled({"method": each.method, "path": each.path}) for each in plan.conditions]
    route: Tree = {"when": when} if any(when) else {}
    route |= guarded_of(plan.guarded)
    return {**route, "exit": exits[gateway.cluster_of(plan)], "with": _WITH[plan.capability](plan)}


def _produce(plan: RouteSpec) -> Tree:
    with_: Tree = {"capability": "produce", "topic": plan.topic}
    if plan.acks != "in_sync_replicas":
        with_["acks"] = plan.acks
    if plan.key is not None:
        with_["key"] = plan.key
    more = {"overrides": dict(plan.overrides), "reply-to": plan.reply_to, "async": dict(plan.async_fields)}
    return {**with_, **_filled(more), **_filled({"correlation-id": plan.correlation_header})}


def _fetch(plan: RouteSpec) -> Tree:
    merge = {"merge": {"content-type": "application/json"}} if plan.merge else {}
    return {"capability": "fetch", "topic": plan.topic, **_filters(plan), **merge}


def _stream(plan: RouteSpec) -> Tree:
    event = {"event": {"id": _KEYED_EVENT}} if plan.event_id == "key_and_etag" else {}
    return {"topic": plan.topic, **_filters(plan), **event}


_WITH: Final = {"produce": _produce, "fetch": _fetch, "stream": _stream}


def _filters(plan: RouteSpec) -> Tree:
    rows = [
        {**({"key": each.key} if each.key is not None else {}), **_filled({"headers": dict(each.headers)})}
        for each in plan.filters
    ]
    return _filled({"filters": rows})


def _filled(values: Tree) -> Tree:
    return {name: value for name, value in values.items() if value}
