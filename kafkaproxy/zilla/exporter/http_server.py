"""Entries of a gateway as routes of an http server, and of the sse servers behind it.

A route of the http server that no later one may follow (a barrier) leads to a binding without routes. Entries of two levels
that an sse server made are put back behind one; other levels are multiplied out, which takes the same requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Final

from kafkaproxy.specs.types import EntryConditionSpec, EntrySpec, GatewaySpec, RouteSpec
from kafkaproxy.zilla.importer.security import merge_guards
from kafkaproxy.zilla.names import Names
from kafkaproxy.zilla.plan import GatewayPlan
from kafkaproxy.zilla.report import ExportReport

__all__ = ["HttpSide", "guarded_of", "is_every_path", "levels_of", "mapping_binding"]

_OPEN_PARAM: Final = re.compile(r"(\{[A-Za-z_][A-Za-z0-9_]*\})\*")
_SEGMENT: Final = re.compile(r"(?<!\$)(\{[A-Za-z_][A-Za-z0-9_]*\})(?!\*)")
_PARTS: Final = ("scheme", "authority", "path", "method")
_EVERY_PATH: Final = frozenset({"*", "/*"})

Rows = tuple[EntryConditionSpec, ...]
Tree = dict[str, Any]


def is_every_path(path: str) -> bool:
    """Return True if a pattern of a path is no condition: every request has a path, and it begins with '/'."""
    return path in _EVERY_PATH


def levels_of(entry: EntrySpec) -> list[Rows]:
    """Return the levels that test something, outermost first, each in its simplest form."""
    levels: dict[int, list[EntryConditionSpec]] = {}
    for row in entry.conditions:
        levels.setdefault(row.level, []).append(_simple(row))
    plain = EntryConditionSpec()
    return [tuple(rows) for _, rows in sorted(levels.items()) if plain not in rows]


def _simple(row: EntryConditionSpec) -> EntryConditionSpec:
    path = "" if is_every_path(row.path) else row.path
    method = "" if row.method == "*" else row.method
    headers = {name.lower(): value for name, value in row.headers.items()}
    return replace(row, level=0, path=path, method=method, headers=headers)


class HttpSide:
    """Collects the bindings behind an http server while its routes are written."""

    def __init__(self, gateway: GatewayPlan, exits: Mapping[str, str], names: Names, report: ExportReport) -> None:
        self.bindings: Tree = {}
        self._gateway = gateway
        self._exits = exits
        self._names = names
        self._report = report
        self._unserved = ""

    def routes(self) -> list[Tree]:
        """Return the routes of the http server."""
        written: list[Tree] = []
        entries = self._gateway.entries
        start = 0
        while start < len(entries):
            end = _end_of_group(entries, start)
            written.append(self._group(entries[start:end]) if end > start + 1 else self._entry(entries[start]))
            start = end
        return written

    def _entry(self, entry: EntrySpec) -> Tree:
        when = self._when(self._one_level(entry), entry)
        return {**when, **guarded_of(entry.guarded), "exit": self._target(entry)}

    def _target(self, entry: EntrySpec) -> str:
        if not entry.routes:
            return self._barrier()
        if entry.routes[0].capability != "stream":
            return self._mapping(entry)
        sse = self._names.take(entry.name)
        self.bindings[sse] = {}  # keeps its place before the binding that it leads to
        self.bindings[sse] = {"type": "sse", "kind": "server", "exit": self._mapping(entry)}
        return sse

    def _mapping(self, entry: EntrySpec) -> str:
        streams = entry.routes[0].capability == "stream"
        name = self._names.take(f"{entry.name}_streams" if streams else entry.name)
        self.bindings[name] = mapping_binding(entry, self._gateway, self._exits)
        return name

    def _barrier(self) -> str:
        """Return the binding without routes: Zilla answers 404 there."""
        if not self._unserved:
            self._unserved = self._names.take("unserved")
            self.bindings[self._unserved] = {"type": "http-filesystem", "kind": "proxy", "routes": []}
        return self._unserved

    def _group(self, group: Sequence[EntrySpec]) -> Tree:
        """Return one route to an sse server, whose routes are the entries of the group."""
        last = group[-1]
        sse = self._names.take(last.name)
        self.bindings[sse] = {}
        inner = [each for each in group if len(levels_of(each)) > 1 or each.routes]
        routes = [self._sse_route(each, last) for each in inner]
        self.bindings[sse] = {"type": "sse", "kind": "server", "routes": routes}
        base = levels_of(last)
        when = self._when(base[0] if base else (), last)
        return {**when, **guarded_of(last.guarded), "exit": sse}

    def _sse_route(self, entry: EntrySpec, last: EntrySpec) -> Tree:
        levels = levels_of(entry)
        when = {"when": [{"path": row.path} for row in levels[1]]} if len(levels) > 1 else {}
        guarded = {} if entry is last else guarded_of(entry.guarded)
        return {**when, **guarded, "exit": self._mapping(entry) if entry.routes else self._barrier()}

    def _one_level(self, entry: EntrySpec) -> Rows:
        levels = levels_of(entry)
        if not levels:
            return ()
        rows = levels[0]
        for level in levels[1:]:
            found = [_both(one, other) for one, other in product(rows, level)]
            rows = tuple(row for row in found if row is not None)
            if len(rows) < len(found):
                message = "Its levels test the same part of a request, and Zilla's http server has one level."
                self._report.refuse(self._subject(entry), message, "Write conditions of one level.")
        return rows

    def _when(self, rows: Rows, entry: EntrySpec) -> Tree:
        return {"when": [{"headers": self._headers(row, entry)} for row in rows]} if rows else {}

    def _headers(self, row: EntryConditionSpec, entry: EntrySpec) -> Tree:
        values = {f":{name}": getattr(row, name) for name in _PARTS if getattr(row, name)}
        return {name: self._pattern(value, entry) for name, value in (values | dict(row.headers)).items()}

    def _pattern(self, pattern: str, entry: EntrySpec) -> str:
        if found := _SEGMENT.search(pattern):
            message = f"{pattern!r}: {found[1]} is one segment here, and anything in Zilla's http server."
            advice = f"Write {found[1]}* in the entry, and {found[1]} in the conditions of its routes."
            self._report.refuse(self._subject(entry), message, advice)
        return _OPEN_PARAM.sub(r"\1", pattern)

    def _subject(self, entry: EntrySpec) -> str:
        return f"entry {self._gateway.name}/{entry.name}"


def _both(one: EntryConditionSpec, other: EntryConditionSpec) -> EntryConditionSpec | None:
    """Return the condition that tests both; None where a part has two patterns."""
    parts: dict[str, Any] = {}
    for name in _PARTS:
        values = {value for value in (getattr(one, name), getattr(other, name)) if value}
        if len(values) > 1:
            return None
        parts[name] = values.pop() if values else ""
    headers = dict(one.headers)
    if any(headers.setdefault(name, value) != value for name, value in other.headers.items()):
        return None
    return EntryConditionSpec(headers=headers, **parts)


def _end_of_group(entries: Sequence[EntrySpec], start: int) -> int:
    """Return where the entries end that one sse server makes: those with a path of its own, and one for the rest."""
    first = levels_of(entries[start])
    if len(first) != 2:
        return start + 1
    end = start
    while end < len(entries) and _is_behind_sse(entries[end], first[0]):
        end += 1
    if end == len(entries) or levels_of(entries[end]) != first[:1] or not _is_stream_or_barrier(entries[end]):
        return start + 1
    outer = entries[end].guarded
    serves = any(each.routes for each in entries[start : end + 1])  # or an import would not look at the sse server
    exact = all(merge_guards(outer, each.guarded) == each.guarded for each in entries[start:end])
    return end + 1 if serves and exact else start + 1


def _is_behind_sse(entry: EntrySpec, outer: Rows) -> bool:
    levels = levels_of(entry)
    if len(levels) != 2 or levels[0] != outer or not _is_stream_or_barrier(entry):
        return False
    return all(row == EntryConditionSpec(path=row.path) and row.path and "{" not in row.path for row in levels[1])


def _is_stream_or_barrier(entry: EntrySpec) -> bool:
    return all(route.capability == "stream" for route in entry.routes)


_KEYED_EVENT: Final = '["${base64(key)}","${etag}"]'


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
