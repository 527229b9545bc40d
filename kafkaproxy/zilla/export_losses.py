"""What the models have and Zilla lacks: reported, row by row, wherever it is not at its default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kafkaproxy.models import Gateway, Route
from kafkaproxy.specs.types import ConfigurationSpec, TopicSpec
from kafkaproxy.zilla.export_plan import changed_fields
from kafkaproxy.zilla.export_remarks import Remarks
from kafkaproxy.zilla.plan import Plan

__all__ = ["report_losses"]

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


def report_losses(row: Gateway, spec: ConfigurationSpec, plan: Plan, remarks: Remarks) -> None:
    """Report everything about the gateway that was read and is not in its plan."""
    (gateway,) = spec.gateways
    subject = f"gateway {gateway.name}"
    if not row.enabled:
        remarks.lose(subject, "enabled is left out. The gateway is disabled, and Zilla would serve it.")
    _report("gateway", subject, gateway, remarks)
    if gateway.access_control is None:
        message = "It follows the site's django-cors-headers settings; in Zilla it would be same-origin."
        remarks.lose(subject, message, "Give it an access control of its own.")
    _report_rules(row, spec, remarks)
    for name in sorted(cluster.name for cluster in plan.clusters):
        _report("cluster", f"cluster {name}", spec.clusters[name], remarks)
    for topic in _topics_of(spec, plan):
        _report("topic", f"topic {topic.name}", topic, remarks)


def _report_rules(row: Gateway, spec: ConfigurationSpec, remarks: Remarks) -> None:
    for name in row.entries.filter(enabled=False).values_list("name", flat=True):
        remarks.lose(f"entry {row.name}/{name}", "It is disabled, and left out.")
    routes = {(entry.name, route.name): route for entry in spec.gateways[0].entries for route in entry.routes}
    rows = Route.objects.filter(entry__gateway=row, entry__enabled=True)
    for key in rows.order_by("entry__position", "entry_id", "position", "pk").values_list("entry__name", "name"):
        subject = f"route {row.name}/{'/'.join(key)}"
        if key in routes:
            _report("route", subject, routes[key], remarks)
        else:
            remarks.lose(subject, "It is disabled, and left out.")


def _report(kind: str, subject: str, spec: Any, remarks: Remarks) -> None:
    for name in changed_fields(kind, spec):
        remarks.lose(subject, f"{name} is left out. {_REASONS.get(kind, {}).get(name, _NONE)}")


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
