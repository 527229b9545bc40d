"""What the models have and Zilla lacks: reported, row by row, wherever it is not at its default."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from django.db import models

from kafkaproxy.models import Cluster, Entry, Gateway, Route, Topic
from kafkaproxy.zilla.export_remarks import Remarks
from kafkaproxy.zilla.plan import Plan

__all__ = ["report_losses"]

_NONE: Final = "Zilla has no such setting."
_PEM: Final = "Zilla reads keys from a vault: make one, and name it in the tls client."

_GATEWAY: Final = {
    "enabled": "The gateway is disabled, and Zilla would serve it.",
    "forwarded_fields": "Zilla puts all request fields into a record with reply-to.",
    "dropped_fields": "Zilla puts all request fields into a record with reply-to.",
    "forward_credentials": "Zilla puts credentials into records anyway, but an import does not.",
}
_ROUTE: Final = {
    "timeout": "Zilla waits for a reply without end.",
    "cache_control": "Zilla chooses cache-control itself.",
    "start": "Zilla's streams start at the earliest record.",
    "start_timestamp": "Zilla's streams start at the earliest record.",
    "encoding": "Zilla writes data as text.",
}
_TOPIC: Final = dict.fromkeys(("cleanup_policy", "store_bytes", "sensitive"), _NONE)
_CLUSTER: Final = {
    "ssl_certificate": _PEM,
    "ssl_key": _PEM,
    "ssl_key_password": _PEM,
    "ssl_verify_hostname": "Zilla always verifies the name.",
    "options": "Zilla does not use librdkafka.",
}


def report_losses(gateway: Gateway, plan: Plan, remarks: Remarks) -> None:
    """Report everything about the gateway that is not in its plan."""
    _report(gateway, f"gateway {gateway.name}", _GATEWAY, remarks)
    if not hasattr(gateway, "access_control"):
        message = "It follows the site's django-cors-headers settings; in Zilla it would be same-origin."
        remarks.lose(f"gateway {gateway.name}", message, "Give it an access control of its own.")
    _report_rules(gateway, remarks)
    for cluster in Cluster.objects.filter(name__in=[each.name for each in plan.clusters]):
        _report(cluster, f"cluster {cluster.name}", _CLUSTER, remarks)
    for topic in _topics_of(plan):
        _report(topic, f"topic {topic.name}", _TOPIC, remarks)


def _report_rules(gateway: Gateway, remarks: Remarks) -> None:
    for entry in gateway.entries.filter(enabled=False):
        remarks.lose(_subject(entry), "It is disabled, and left out.")
    rows = Route.objects.filter(entry__gateway=gateway, entry__enabled=True).select_related("entry__gateway")
    for route in rows.order_by("entry__position", "entry_id", "position", "pk"):
        if route.enabled:
            _report(route, _subject(route), _ROUTE, remarks)
        else:
            remarks.lose(_subject(route), "It is disabled, and left out.")


def _subject(row: Entry | Route) -> str:
    return f"{row._meta.verbose_name} {'/'.join(row.natural_key())}"  # noqa: SLF001 - Django's documented API


def _report(row: models.Model, subject: str, fields: Mapping[str, str], remarks: Remarks) -> None:
    for name in _changed(row, fields):
        remarks.lose(subject, f"{name} is left out. {fields[name]}")


def _changed(row: models.Model, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        field = row._meta.get_field(name)  # noqa: SLF001 - Django's documented API
        if isinstance(field, models.Field) and getattr(row, name) != field.get_default():
            yield name


def _topics_of(plan: Plan) -> Iterator[Topic]:
    """Return the topics that the file names, or that a template of its routes may stand for."""
    named = {(topic.cluster, topic.name) for topic in plan.topics}
    routes = [route for gateway in plan.gateways for entry in gateway.entries for route in entry.routes]
    named |= {(route.cluster, topic) for route in routes for topic in (route.topic, route.reply_to)}
    open_ = {cluster for cluster, topic in named if "${" in topic}
    for row in Topic.objects.filter(cluster__name__in={cluster for cluster, _ in named}).select_related("cluster"):
        if row.cluster.name in open_ or (row.cluster.name, row.name) in named:
            yield row
