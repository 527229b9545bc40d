"""The admin of entries, the outer rules of a gateway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from kafkaproxy.admin.base import CheckedAdmin, RowsInline
from kafkaproxy.admin.forms.advice import hidden_entries, hidden_routes
from kafkaproxy.admin.forms.drafts import ENTRY_PREFETCH, ENTRY_ROWS, ROUTE_PREFETCH, draft_entry
from kafkaproxy.admin.forms.linked import LinkedForm
from kafkaproxy.admin.forms.words import MOST_ROUTES, described_routes, entry_sentence
from kafkaproxy.models import Entry, EntryCondition, EntryGuard, Gateway
from kafkaproxy.validators import validate_pattern

__all__ = ["EntryAdmin"]


class EntryForm(LinkedForm):
    """An entry."""

    row_names = ENTRY_ROWS


class EntryConditionInline(RowsInline):
    """When the entry is taken."""

    model = EntryCondition
    verbose_name, verbose_name_plural = _("condition"), _("conditions")
    fields = ["method", "scheme", "authority", "path", "headers", "level"]
    line_checks = {"headers": validate_pattern}


class EntryGuardInline(RowsInline):
    """The guards that have to pass."""

    model = EntryGuard
    verbose_name, verbose_name_plural = _("guard"), _("guards")
    exclude = []
    autocomplete_fields = ["guard"]


@admin.register(Entry)
class EntryAdmin(CheckedAdmin):
    """Entries."""

    form = EntryForm
    empty_text = _("Entries are the outer rules of a gateway. Add a gateway first: it gets an entry that takes every request.")
    inlines = [EntryConditionInline, EntryGuardInline]
    list_display = ["name", "matches", "gateway", "position", "enabled", "route_count"]
    list_editable = ["position", "enabled"]
    list_filter = ["enabled", "gateway", "guarded__guard"]
    list_select_related = ["gateway"]
    search_fields = ["name", "gateway__name", "conditions__path", "conditions__authority", "routes__name"]
    ordering = ["gateway__position", "gateway_id", "position", "pk"]
    autocomplete_fields = ["gateway"]
    readonly_fields = ["sentence"]
    fieldsets = [
        (None, {"fields": ["sentence", "gateway", "name", "enabled", "position"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entry]:
        """Count the routes."""
        entries: QuerySet[Entry] = super().get_queryset(request).prefetch_related(*ENTRY_PREFETCH)
        return entries.annotate(route_total=Count("routes", distinct=True))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Choose the gateway where there is only one."""
        gateways = list(Gateway.objects.values_list("pk", flat=True)[:2])
        return {**({"gateway": gateways[0]} if len(gateways) == 1 else {}), **super().get_changeform_initial_data(request)}

    @admin.display(description=_("matches"))
    def matches(self, entry: Entry) -> str:
        """Return which requests it takes."""
        return entry_sentence(draft_entry(entry))

    @admin.display(description=_("routes"), ordering="route_total")
    def route_count(self, entry: Any) -> int:
        """Return the number of routes."""
        return int(entry.route_total)

    @admin.display(description=_("matches"))
    def sentence(self, entry: Entry) -> str:
        """Return the sentence that follows the form."""
        return self.sentence_output(entry, entry_sentence(draft_entry(entry)) if entry.pk else "")

    def find_sentence(self, form: LinkedForm) -> str:
        """Return what was entered, in words."""
        return entry_sentence(draft_entry(form.instance, form.rows))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Show the routes."""
        if (entry := context.get("original")) is not None:
            context["kafkaproxy_rules"] = described_routes(entry.routes.prefetch_related(*ROUTE_PREFETCH)[:MOST_ROUTES])
        return super().render_change_form(request, context, *args, **kwargs)

    def find_warnings(self, changed: Sequence[Entry]) -> Iterable[str]:
        """Warn of entries that are never reached, and of routes in them."""
        yield from hidden_entries(Gateway.objects.filter(pk__in={entry.gateway_id for entry in changed}))
        yield from hidden_routes(changed)
