"""A stored gateway as a plan: what an import of its own zilla.yaml would have to make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any, Final

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.expressions import Place as TemplatePlace
from kafkaproxy.core.expressions import Template
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.specs.from_rows import configuration_spec, read_rows
from kafkaproxy.specs.types import AccessControlSpec, ConfigurationSpec, EntrySpec, GatewaySpec, RouteSpec, TopicSpec
from kafkaproxy.zilla.plan import SAID, ClusterPlan, GatewayPlan, GuardPlan, Plan, TopicPlan

__all__ = ["changed_fields", "guard_names", "plan_of", "read_gateway"]

_UNSAID_TOPIC: Final = TopicSpec(cluster="", name="")


def read_gateway(name: str) -> ConfigurationSpec:
    """Read the gateway, enabled or not, its entries and routes that are enabled, and all clusters, topics and guards."""
    return configuration_spec(read_rows([name]))


def plan_of(spec: ConfigurationSpec) -> Plan:
    """Return the one gateway that was read, with its clusters, topics and guards, as far as a zilla.yaml can say it."""
    (gateway,) = spec.gateways
    entries = tuple(_entry(each, gateway) for each in gateway.entries)
    said = _said("gateway", gateway) | {"access_control": gateway.access_control or AccessControlSpec()}
    plan = GatewayPlan(source=gateway.name, entries=entries, **said)
    clusters = list(dict.fromkeys(plan.cluster_of(route) for entry in entries for route in entry.routes))
    guards = [spec.guards[name] for name in guard_names(plan) if name in spec.guards]
    return Plan(
        gateways=(plan,),
        clusters=tuple(
            ClusterPlan(origin=name, source=gateway.name, **_said("cluster", spec.clusters[name])) for name in clusters
        ),
        topics=tuple(_topics(spec, clusters, gateway.name)),
        guards=tuple(GuardPlan(source=gateway.name, **_said("guard", each)) for each in guards),
    )


def changed_fields(kind: str, spec: Any) -> Iterator[str]:
    """Yield the fields that a zilla.yaml cannot say and that are not at their default."""
    for each in fields(spec):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        said = each.name in ("entries", "routes", *SAID[kind])
        if each.compare and not said and default is not MISSING and getattr(spec, each.name) != default:
            yield each.name


def guard_names(plan: GatewaySpec) -> list[str]:
    """Return the guards that the gateway needs, in the order in which they first stand."""
    names = [plan.guard] if plan.guard is not None else []
    for entry in plan.entries:
        names += entry.guarded
        for route in entry.routes:
            names += [*route.guarded, *(each for text in _templates(route) for each in _guards_in(text))]
    return list(dict.fromkeys(names))


def _templates(route: RouteSpec) -> Iterator[str]:
    """Return the templates in which a guard may be named."""
    yield from (route.topic, route.key or "", route.reply_to)
    yield from (value for _, value in route.overrides)
    for each in route.filters:
        yield each.key or ""
        yield from each.headers.values()


def _guards_in(text: str) -> list[str]:
    try:
        return sorted(Template.parse(mask_env(text), TemplatePlace.OVERRIDE).guard_names)
    except TemplateError:  # the import of the file refuses it, and says why
        return []


def _said(kind: str, spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in ("name", *SAID[kind])}


def _entry(spec: EntrySpec, gateway: GatewaySpec) -> EntrySpec:
    return EntrySpec(routes=tuple(_route(each, gateway) for each in spec.routes), **_said("entry", spec))


def _route(spec: RouteSpec, gateway: GatewaySpec) -> RouteSpec:
    return RouteSpec(**_said("route", spec) | {"cluster": gateway.cluster_of(spec)})


def _topics(spec: ConfigurationSpec, clusters: list[str], source: str) -> Iterator[TopicPlan]:
    """Return the topics of which a cache server would say something."""
    for topic in sorted(spec.topics, key=lambda each: (each.cluster, each.name)):
        said = frozenset(name for name in SAID["topic"] if getattr(topic, name) != getattr(_UNSAID_TOPIC, name))
        if said and topic.cluster in clusters:
            yield TopicPlan(source=source, cluster=topic.cluster, said=said, **_said("topic", topic))
