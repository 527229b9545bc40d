"""The top of this app's page in the admin: the first steps, and links to the pages that are no list of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django import template
from django.template import Context
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy

from kafkaproxy.models import Cluster, Gateway, Route

__all__ = ["kafkaproxy_start"]

register = template.Library()

_MOST_CLUSTERS: Final = 20
_TOOLS: Final = (
    (
        "watch_gateway",
        "gateway_live",
        gettext_lazy("Live"),
        gettext_lazy("Open streams, waiting requests, records a second, errors by route: as they happen."),
    ),
    (
        "try_route",
        "route_try_any",
        gettext_lazy("Try a request"),
        gettext_lazy("Send one as a client would: which route serves it and why, the answer, and what Kafka gets."),
    ),
    (
        "import_gateway",
        "gateway_import",
        gettext_lazy("Import a zilla.yaml"),
        gettext_lazy("Paste or upload it, look at what would change, then apply it."),
    ),
)
_STEPS: Final = (
    (Cluster, gettext_lazy("A cluster"), gettext_lazy("where Kafka is, and how to log in")),
    (Gateway, gettext_lazy("A gateway"), gettext_lazy("a namespace of routes on a cluster")),
    (Route, gettext_lazy("A route"), gettext_lazy("what requests of a path do with a topic")),
)


@dataclass(frozen=True, slots=True)
class _Tool:
    url: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class _Step:
    url: str
    """Empty where the user may not add one."""
    title: str
    text: str
    done: bool


@register.inclusion_tag("admin/kafkaproxy/includes/start.html", takes_context=True)
def kafkaproxy_start(context: Context) -> dict[str, Any]:
    """Show the first steps until there is a route, and the tools that the user may use."""
    user = context["request"].user
    return {
        "tools": [*_tools(user), *_topics(user)],
        "steps": [] if Route.objects.exists() else _useful(list(_steps(user))),
        "may_import": user.has_perm("kafkaproxy.import_gateway"),
    }


def _useful(steps: list[_Step]) -> list[_Step]:
    """Return the steps, or none for a user without the permission for any of them."""
    return steps if any(step.url for step in steps) else []


def _tools(user: Any) -> Iterator[_Tool]:
    for permission, page, title, text in _TOOLS:
        if user.has_perm(f"kafkaproxy.{permission}"):
            yield _Tool(reverse(f"admin:kafkaproxy_{page}"), str(title), str(text))


def _topics(user: Any) -> Iterator[_Tool]:
    if user.has_perm("kafkaproxy.browse_topic"):
        text = gettext("What the store of this host holds, how far behind it is, and the last records.")
        for cluster in Cluster.objects.order_by("name")[:_MOST_CLUSTERS]:
            title = gettext("Topics of %(cluster)s") % {"cluster": cluster}
            yield _Tool(reverse("admin:kafkaproxy_cluster_topics", args=[cluster.pk]), title, text)


def _steps(user: Any) -> Iterator[_Step]:
    for model, title, text in _STEPS:
        name = model._meta.model_name  # noqa: SLF001 - Django's documented API
        url = reverse(f"admin:kafkaproxy_{name}_add") if user.has_perm(f"kafkaproxy.add_{name}") else ""
        yield _Step(url, str(title), str(text), model._default_manager.exists())  # noqa: SLF001 - as above
