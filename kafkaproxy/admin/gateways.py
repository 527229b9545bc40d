"""The admin of gateways."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from kafkaproxy.admin.base import StackedRowsInline, SwitchAdmin
from kafkaproxy.admin.forms.advice import entry_issues, hidden_entries
from kafkaproxy.admin.forms.drafts import ENTRY_PREFETCH, ROUTE_PREFETCH, draft_entry
from kafkaproxy.admin.forms.linked import LinkedForm
from kafkaproxy.admin.forms.words import MOST_ROUTES, described_routes, entry_sentence
from kafkaproxy.admin.pages.exports import ExportMixin
from kafkaproxy.admin.pages.imports import ImportMixin
from kafkaproxy.admin.pages.live import LiveMixin
from kafkaproxy.models import AccessControl, Gateway, Route
from kafkaproxy.validators import validate_field_name, validate_method

__all__ = ["GatewayAdmin"]


class AccessControlInline(StackedRowsInline):
    """The CORS policy."""

    model = AccessControl
    line_checks = {
        "allow_methods": validate_method,
        "allow_headers": validate_field_name,
        "expose_headers": validate_field_name,
    }


@admin.register(Gateway)
class GatewayAdmin(ImportMixin, ExportMixin, LiveMixin, SwitchAdmin):
    """Gateways."""

    form = LinkedForm
    tool_permissions = ["watch_gateway", "import_gateway"]
    empty_text = _(
        "A gateway is a namespace of routes on one cluster. Add a cluster, then a gateway, then its routes; "
        "or import a zilla.yaml, which brings all of them."
    )
    inlines = [AccessControlInline]
    actions = [*SwitchAdmin.actions, "export_zilla"]
    list_display = ["name", "position", "enabled", "cluster", "entry_count", "route_count", "cors"]
    list_editable = ["position", "enabled"]
    list_filter = ["enabled", "cluster", "guard"]
    list_select_related = ["cluster", "access_control"]
    search_fields = ["name", "entries__name", "entries__routes__name", "entries__routes__topic"]
    autocomplete_fields = ["cluster", "guard"]
    line_checks = {"forwarded_fields": validate_field_name, "dropped_fields": validate_field_name}
    fieldsets = [
        (None, {"fields": ["name", "cluster", "enabled", "position"]}),
        (
            _("Credentials"),
            {
                "classes": ["collapse"],
                "fields": ["guard", "credentials_headers", "credentials_cookies", "credentials_query"],
            },
        ),
        (
            _("Records"),
            {
                "classes": ["collapse"],
                "fields": [
                    "idempotency_header",
                    "reply_to_header",
                    "correlation_header",
                    "forwarded_fields",
                    "dropped_fields",
                    "forward_credentials",
                ],
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Gateway]:
        """Count the rules."""
        entries, routes = Count("entries", distinct=True), Count("entries__routes", distinct=True)
        counted: QuerySet[Gateway] = super().get_queryset(request).annotate(entry_total=entries, route_total=routes)
        return counted

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001
        """Give a new gateway the entry that matches everything."""
        super().save_related(request, form, formsets, change)
        if not change:
            form.instance.ensure_entry()

    @admin.display(description=_("entries"), ordering="entry_total")
    def entry_count(self, gateway: Any) -> int:
        """Return the number of entries."""
        return int(gateway.entry_total)

    @admin.display(description=_("routes"), ordering="route_total")
    def route_count(self, gateway: Any) -> int:
        """Return the number of routes."""
        return int(gateway.route_total)

    @admin.display(description=_("CORS"))
    def cors(self, gateway: Gateway) -> str:
        """Return the policy."""
        return str(gateway.access_control) if hasattr(gateway, "access_control") else str(_("the site's"))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Show the entries and their routes."""
        if (gateway := context.get("original")) is not None:
            context["kafkaproxy_rules"] = _rules(gateway)
        return super().render_change_form(request, context, *args, **kwargs)

    def find_warnings(self, changed: Sequence[Gateway]) -> Iterable[str]:
        """Warn of entries that are never reached."""
        return hidden_entries(changed)


def _rules(gateway: Gateway) -> list[dict[str, Any]]:
    entries = gateway.entries.annotate(route_total=Count("routes")).prefetch_related(*ENTRY_PREFETCH)
    routes = Route.objects.filter(entry__gateway=gateway).order_by("entry__position", "entry_id", "position", "pk")
    by_entry: defaultdict[int, list[tuple[Route, str, str]]] = defaultdict(list)
    for described in described_routes(routes.prefetch_related(*ROUTE_PREFETCH)[:MOST_ROUTES]):
        by_entry[described[0].entry_id].append(described)
    hidden = {issue.subject: issue.message for issue in entry_issues(entries)}
    return [
        {
            "entry": entry,
            "sentence": entry_sentence(draft_entry(entry)),
            "warning": hidden.get(entry.name, ""),
            "routes": by_entry[entry.pk],
        }
        for entry in entries
    ]
