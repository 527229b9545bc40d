"""Two plans compared by what they serve: generated names and places in the file do not count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kafkaproxy.specs.types import ConditionSpec, EntrySpec, RouteSpec
from kafkaproxy.zilla.exporter.document import servers_of
from kafkaproxy.zilla.exporter.http_server import levels_of
from kafkaproxy.zilla.plan import SAID, GatewayPlan, Plan

__all__ = ["differences", "renamed"]

Facts = dict[tuple[str, str], Any]


def differences(wanted: Plan, found: Plan) -> Iterator[tuple[str, str]]:
    """Return what differs, as subject and field; the subjects have the names of ``wanted``."""
    subjects = _subjects(wanted)
    one, other = _facts(wanted), _facts(found)
    for key in dict.fromkeys((*one, *other)):
        if one.get(key) != other.get(key):
            subject, field = key
            yield subjects.get(subject, subject), field


def renamed(wanted: Plan, found: Plan) -> Iterator[tuple[str, str]]:
    """Return the old and the new names of entries and routes that an import would name differently."""
    pairs = zip(_subjects(wanted).values(), _subjects(found).values(), strict=False)
    yield from ((old, new) for old, new in pairs if old != new)


def _subjects(plan: Plan) -> dict[str, str]:
    """Return the names of entries and routes by their numbers."""
    found: dict[str, str] = {}
    for number, entry in enumerate(plan.gateways[0].entries):
        found[f"entry {number}"] = f"entry {plan.gateways[0].name}/{entry.name}"
        for index, route in enumerate(entry.routes):
            found[f"route {number}/{index}"] = f"route {plan.gateways[0].name}/{entry.name}/{route.name}"
    return found


def _facts(plan: Plan) -> Facts:
    """Return each value under its subject and field."""
    clusters = {cluster.origin: cluster.name for cluster in plan.clusters}
    facts: Facts = {}
    for cluster in plan.clusters:
        facts |= {(f"cluster {cluster.name}", name): getattr(cluster, name) for name in SAID["cluster"]}
        facts[f"cluster {cluster.name}", "bootstrap_servers"] = servers_of(cluster.bootstrap_servers)
    for topic in plan.topics:
        subject = f"topic {clusters[topic.cluster]}/{topic.name}"
        facts[subject, "bootstrap"] = topic.bootstrap
        facts[subject, "default_offset"] = topic.default_offset
    for guard in plan.guards:
        options = {name: value for name, value in guard.options.items() if name != "allow_http"}
        facts[f"guard {guard.name}", "options"] = (guard.kind, options)
    facts |= _gateway(plan.gateways[0])
    for number, entry in enumerate(plan.gateways[0].entries):
        facts |= _entry(entry, number)
        for index, route in enumerate(entry.routes):
            facts |= _route(route, f"route {number}/{index}", plan.gateways[0], clusters)
    return facts


def _gateway(plan: GatewayPlan) -> Facts:
    return {(f"gateway {plan.name}", name): getattr(plan, name) for name in SAID["gateway"] if name != "cluster"}


def _entry(plan: EntrySpec, number: int) -> Facts:
    subject = f"entry {number}"
    return {(subject, "conditions"): levels_of(plan), (subject, "guarded"): plan.guarded}


def _route(plan: RouteSpec, subject: str, gateway: GatewayPlan, clusters: Mapping[str, str]) -> Facts:
    facts = {(subject, name): getattr(plan, name) for name in SAID["route"]}
    facts[subject, "cluster"] = clusters[gateway.cluster_of(plan)]
    facts[subject, "conditions"] = () if plan.conditions == (ConditionSpec(),) else plan.conditions
    return facts
