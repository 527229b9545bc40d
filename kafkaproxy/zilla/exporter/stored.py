"""A stored gateway as a plan, as far as a zilla.yaml can say it, and a report of everything else that is not at its default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, Final

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.models import Gateway, Route
from kafkaproxy.specs.from_rows import configuration_spec, read_rows
from kafkaproxy.specs.types import AccessControlSpec, ConfigurationSpec, EntrySpec, GatewaySpec, RouteSpec, TopicSpec
from kafkaproxy.zilla.plan import SAID, ClusterPlan, GatewayPlan, GuardPlan, Plan, TopicPlan
from kafkaproxy.zilla.report import ExportReport

__all__ = ["changed_fields", "guard_names", "plan_of", "read_gateway", "report_losses"]

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


_NONE: Final = "Zilla has no such setting."
_PEM: Final = "Zilla reads keys from a vault: make one, and name it in the tls client."

_REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    "gateway": {
        "forwarded_fields": "Zilla puts all request fields into a record with reply-to.",
        "dropped_fields": "Zilla puts all request fields into a record with reply-to.",
        "forward_credentials": "Zilla puts credentials into records anyway, but an import does not.",
    },
    "route": {
        "timeout": "Zilla waits for a reply without end.",
        "cache_control": "Zilla chooses cache-control itself.",
        "start": "Zilla's streams start at the earliest record.",
        "start_timestamp": "Zilla's streams start at the earliest record.",
        "encoding": "Zilla writes data as text.",
    },
    "cluster": {
        "ssl_certificate": _PEM,
        "ssl_key": _PEM,
        "ssl_key_password": _PEM,
        "ssl_verify_hostname": "Zilla always verifies the name.",
        "options": "Zilla does not use librdkafka.",
    },
}
"""Why a field is left out, where there is more to say than that Zilla has no such setting."""


def report_losses(row: Gateway, spec: ConfigurationSpec, plan: Plan, report: ExportReport) -> None:
    """ImportReport everything about the gateway that was read and is not in its plan."""
    (gateway,) = spec.gateways
    subject = f"gateway {gateway.name}"
    if not row.enabled:
        report.lose(subject, "enabled is left out. The gateway is disabled, and Zilla would serve it.")
    _report_fields("gateway", subject, gateway, report)
    if gateway.access_control is None:
        message = "It follows the site's django-cors-headers settings; in Zilla it would be same-origin."
        report.lose(subject, message, "Give it an access control of its own.")
    _report_rules(row, spec, report)
    for name in sorted(cluster.name for cluster in plan.clusters):
        _report_fields("cluster", f"cluster {name}", spec.clusters[name], report)
    for topic in _topics_of(spec, plan):
        _report_fields("topic", f"topic {topic.name}", topic, report)


def _report_rules(row: Gateway, spec: ConfigurationSpec, report: ExportReport) -> None:
    for name in row.entries.filter(enabled=False).values_list("name", flat=True):
        report.lose(f"entry {row.name}/{name}", "It is disabled, and left out.")
    routes = {(entry.name, route.name): route for entry in spec.gateways[0].entries for route in entry.routes}
    rows = Route.objects.filter(entry__gateway=row, entry__enabled=True)
    for key in rows.order_by("entry__position", "entry_id", "position", "pk").values_list("entry__name", "name"):
        subject = f"route {row.name}/{'/'.join(key)}"
        if key in routes:
            _report_fields("route", subject, routes[key], report)
        else:
            report.lose(subject, "It is disabled, and left out.")


def _report_fields(kind: str, subject: str, spec: Any, report: ExportReport) -> None:
    for name in changed_fields(kind, spec):
        report.lose(subject, f"{name} is left out. {_REASONS.get(kind, {}).get(name, _NONE)}")


def _topics_of(spec: ConfigurationSpec, plan: Plan) -> Iterator[TopicSpec]:
    """Return the topics that the file names, or that a template of its routes may stand for."""
    named = {(topic.cluster, topic.name) for topic in plan.topics}
    for gateway in plan.gateways:
        for route in (route for entry in gateway.entries for route in entry.routes):
            named |= {(gateway.cluster_of(route), topic) for topic in (route.topic, route.reply_to)}
    open_ = {cluster for cluster, topic in named if "${" in topic}
    for topic in sorted(spec.topics, key=lambda each: (each.cluster, each.name)):
        if topic.cluster in open_ or (topic.cluster, topic.name) in named:
            yield topic
