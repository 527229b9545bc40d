"""The http-kafka and sse-kafka bindings of a proxy, as they are for one server, or for none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.zilla.expand.composite import Composite
from kafkaproxy.zilla.expand.operations import Source
from kafkaproxy.zilla.expand.pairs import Pair, Proxy
from kafkaproxy.zilla.expand.rules import OperationGuard, Rule, RuleCondition, SchemeGuards, make_rule
from kafkaproxy.zilla.expand.servers import Group, Server
from kafkaproxy.zilla.expand.specification import ExpandError, reported
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, mapping, row, text

__all__ = ["check_answers", "mapping_node", "proxy_rules", "rules_of_group"]

_OF_A_REQUEST: Final = ("key", "overrides")
"""Properties of a request that a status poll does not use."""


def proxy_rules(proxy: Proxy, server: Server | None, report: ImportReport) -> list[Rule]:
    """Return the routes of a proxy, in order. Refuse a route that would be open although its operation asks for security."""
    found: list[Rule] = []
    for pair in proxy.pairs:
        if server is None or pair.source.specification.origin == server.specification.origin:
            for base in server.bases if server is not None else [""]:
                with reported(report):
                    found += _rules(proxy, server, pair, base)
    return found


def _rules(proxy: Proxy, server: Server | None, pair: Pair, base: str) -> Iterator[Rule]:
    inner, identity = _guard(proxy, server, pair.source)
    rule = make_rule(pair.source, pair.target, inner, identity, base, pair.exit)
    if pair.asks is not None:
        asking, _ = _guard(proxy, server, pair.asks)
        condition = RuleCondition(pair.asks.method, text(base + pair.asks.path.text, pair.asks.path.line))
        if _key(asking) != _key(inner):
            pairs = tuple((key, value) for key, value in rule.with_.pairs if key.text not in _OF_A_REQUEST)
            with_ = Branch(pairs, rule.with_.line)
            yield replace(rule, source=pair.asks, conditions=(condition,), with_=with_, guard=asking, later=None)
        else:
            rule = rule.also(condition)
    yield rule


def _key(guard: OperationGuard | None) -> object:
    return guard.key if guard is not None else None


def _guard(proxy: Proxy, server: Server | None, source: Source) -> tuple[OperationGuard | None, Leaf | None]:
    """Return the guard of a route, beyond that of the http server, and the guard that identifies the client."""
    own = SchemeGuards(proxy.composite.document.name, source.specification.security).of(source)
    outer = server.guards.of(source) if server is not None else None
    known = own or outer
    if known is None and any(source.security):
        scheme = source.security[0][0].scheme
        message = gettext(
            "%(source)s needs the security scheme %(scheme)r, and no guard is named for it: it would be open."
        ) % {"source": source, "scheme": scheme.text}
        advice = gettext("Name one: security: {%(scheme)s: GUARD} beside the catalog of %(specification)r.") % {
            "scheme": scheme.text,
            "specification": source.specification.label,
        }
        raise ExpandError(source.specification.at(scheme.line), message, advice)
    return (known if source.is_stream else own), (known.name if known is not None else None)


def rules_of_group(rules: Iterable[Rule], group: Group, server: Server) -> list[Rule]:
    """Return the routes that a request of a group can take. All others have another method, or never its path."""
    outer = [each for source in group.sources for each in server.conditions(source)]
    found = []
    for rule in rules:
        met = tuple(each for each in rule.conditions if any(one.meets(each) for one in outer))
        if met and rule.source.is_stream is group.is_stream:
            found.append(replace(rule, conditions=met))
    return found


def check_answers(rules: list[Rule]) -> None:
    """Raise ``ExpandError`` where a client that one route refuses could get the answer by another route.

    A route serves the answers that it promised to every client, past the guard of an operation on the same path.
    """
    for rule in rules:
        for other in rules:
            if rule.later is None or other is rule or _key(other.guard) == _key(rule.guard):
                continue
            if any(rule.later.meets(each) for each in other.conditions):
                source = other.source
                message = gettext(
                    "%(source)s has another security than %(other)s, whose answers are asked for on its path."
                ) % {"source": source, "other": rule.source}
                advice = gettext("Give both the same, or name the guards under security of the server's specification too.")
                raise ExpandError(source.specification.at(source.line), message, advice)


def mapping_node(composite: Composite, rules: list[Rule], *, is_stream: bool) -> Branch:
    """Return a binding with these routes."""
    line = composite.name.line
    properties = {
        "type": "sse-kafka" if is_stream else "http-kafka",
        "kind": "proxy",
        "telemetry": composite.node.get("telemetry"),
        "routes": row([rule.node() for rule in rules], line),
    }
    return mapping(line, properties)
