"""The admin of clusters and topics."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import Count, QuerySet
from django.forms import model_to_dict
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kafkaproxy.admin.base import ConfigAdmin, RowsInline
from kafkaproxy.admin.forms.advice import unused_topics
from kafkaproxy.admin.forms.secrets import SecretsAdminMixin, SecretsForm
from kafkaproxy.admin.pages.topics import BrowseMixin, may_browse
from kafkaproxy.core.env import MissingVariable, env_names
from kafkaproxy.models import Cluster, Topic

__all__ = ["ClusterAdmin", "TopicAdmin"]

_TOPIC_FIELDS: Final[list[Any]] = ["name", "bootstrap", "default_offset", "cleanup_policy", "store_bytes", "sensitive"]


class TopicInline(RowsInline):
    """The topics of a cluster that are tuned."""

    model = Topic
    exclude = []
    fields = _TOPIC_FIELDS


@admin.register(Cluster)
class ClusterAdmin(BrowseMixin, SecretsAdminMixin, ConfigAdmin):
    """Clusters."""

    form = SecretsForm
    secret_fields = Cluster.SECRET_FIELDS
    tool_permissions = ["browse_topic"]
    empty_text = gettext_lazy(
        "A cluster says where Kafka is: its bootstrap servers, and how to log in. Begin here, then add a gateway on it."
    )
    masked_fields = ("options",)
    inlines = [TopicInline]
    list_display = ["name", "bootstrap_servers", "security", "gateway_count"]
    list_filter = ["security_protocol", "sasl_mechanism"]
    search_fields = ["name", "bootstrap_servers", "topics__name"]
    formfield_overrides = {models.TextField: {"widget": forms.Textarea({"rows": 3, "class": "vLargeTextField kp-code"})}}
    fieldsets = [
        (None, {"fields": ["name", "bootstrap_servers", "security_protocol"]}),
        (
            gettext_lazy("SASL"),
            {"classes": ["collapse"], "fields": ["sasl_mechanism", "sasl_username", "sasl_password"]},
        ),
        (
            gettext_lazy("TLS"),
            {
                "classes": ["collapse"],
                "fields": ["ssl_ca", "ssl_certificate", "ssl_key", "ssl_key_password", "ssl_verify_hostname"],
            },
        ),
        (gettext_lazy("More"), {"classes": ["collapse"], "fields": ["options"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Cluster]:
        """Count the gateways."""
        counted: QuerySet[Cluster] = super().get_queryset(request).annotate(gateway_total=Count("gateways"))
        return counted

    @admin.display(description=gettext_lazy("security"), ordering="security_protocol")
    def security(self, cluster: Cluster) -> str:
        """Return protocol and mechanism."""
        return ", ".join(filter(None, [cluster.get_security_protocol_display(), cluster.get_sasl_mechanism_display()]))

    @admin.display(description=gettext_lazy("gateways"), ordering="gateway_total")
    def gateway_count(self, cluster: Any) -> int:
        """Return how many gateways use it by default."""
        return int(cluster.gateway_total)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Add the link to the topics for users with the permission."""
        return [*self.list_display, *(["browse"] if may_browse(request) else [])]

    @admin.display(description=gettext_lazy("topics"))
    def browse(self, cluster: Cluster) -> str:
        """Return the link to the topics."""
        return format_html('<a href="{}">{}</a>', reverse("admin:kafkaproxy_cluster_topics", args=[cluster.pk]), _("Topics"))

    def find_warnings(self, changed: Sequence[Cluster]) -> Iterable[str]:
        """Warn of variables that are not set here and topics that no route names."""
        for cluster in changed:
            yield from _unset_variables(cluster)
            yield from unused_topics(cluster.topics.all())


def _unset_variables(cluster: Cluster) -> Iterator[str]:
    values = [*model_to_dict(cluster).values(), *cluster.options.values()]
    texts = [value for value in values if isinstance(value, str)]
    for name in dict.fromkeys(name for text in texts for name in env_names(text)):
        if name not in os.environ:
            yield f"{cluster}: {MissingVariable(name)}"


@admin.register(Topic)
class TopicAdmin(ConfigAdmin):
    """Topics that are tuned."""

    empty_text = gettext_lazy(
        "No topic needs a row here: routes name their topics. Add one to mark it as sensitive, to read it before a route "
        "names it, or to give it a budget."
    )
    list_display = ["name", "cluster", "bootstrap", "default_offset", "cleanup_policy", "store_bytes", "sensitive"]
    list_filter = ["cluster", "bootstrap", "default_offset", "cleanup_policy", "sensitive"]
    list_select_related = ["cluster"]
    search_fields = ["name", "cluster__name"]
    autocomplete_fields = ["cluster"]
    fields = ["cluster", *_TOPIC_FIELDS]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Add the link to the records for users with the permission."""
        return [*self.list_display, *(["browse"] if may_browse(request) else [])]

    @admin.display(description=gettext_lazy("records"))
    def browse(self, topic: Topic) -> str:
        """Return the link to the records."""
        url = reverse("admin:kafkaproxy_cluster_topic", args=[topic.cluster_id, topic.name])
        return format_html('<a href="{}">{}</a>', url, _("Records"))

    def find_warnings(self, changed: Sequence[Topic]) -> Iterable[str]:
        """Warn of topics that no route names."""
        return unused_topics(changed)
