"""The admin of routes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from kafkaproxy.admin.base import CheckedAdmin, RowsInline
from kafkaproxy.admin.forms.advice import route_warnings
from kafkaproxy.admin.forms.drafts import ROUTE_PREFETCH, ROUTE_ROWS, draft_route
from kafkaproxy.admin.forms.generic import ModelForm
from kafkaproxy.admin.forms.linked import LinkedForm
from kafkaproxy.admin.forms.words import route_sentence
from kafkaproxy.admin.pages.tryit import TryItMixin
from kafkaproxy.models import AsyncField, Condition, Entry, Filter, Guard, Override, Route, RouteGuard
from kafkaproxy.routing.rules import Issue, validate_route
from kafkaproxy.validators import TemplateValidator

__all__ = ["RouteAdmin"]


class RouteForm(LinkedForm):
    """A route, checked together with its conditions, overrides, filters, async fields and guards."""

    row_names = ROUTE_ROWS

    def find_issues(self) -> Iterator[Issue]:
        """Ask the rules, once a capability is chosen."""
        if "capability" in self.errors:
            return
        paths_wrong = self.has_row_error("conditions", "path")
        guards = list(Guard.objects.values_list("name", flat=True))
        for issue in validate_route(draft_route(self.instance, self.rows), guards=guards):
            if not (issue.code == "param" and paths_wrong):  # which parameters there are is not known then
                yield issue


class FilterForm(ModelForm):
    """A filter. An error in one of its lines is the only error: it must not also be called empty."""

    def clean(self) -> dict[str, Any] | None:
        """Skip the model's check of the headers if those in the form are wrong."""
        if "headers" in self.errors:
            self.instance.headers = {}
        return super().clean()

    def full_clean(self) -> None:
        """Drop the errors of the whole if a field has one."""
        super().full_clean()
        if len(self.errors) > 1:
            self.errors.pop("__all__", None)


class RouteConditionInline(RowsInline):
    """When the route serves."""

    model = Condition

    def get_extra(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> int:  # noqa: ARG002
        """Offer a row to a new route: nearly every route has a condition."""
        return 1 if obj is None else 0


class OverrideInline(RowsInline):
    """Headers of the records."""

    model = Override
    classes = ["kp-only-produce"]


class AsyncFieldInline(RowsInline):
    """Fields of 202 Accepted."""

    model = AsyncField
    classes = ["kp-only-produce"]


class FilterInline(RowsInline):
    """Which records are served."""

    model = Filter
    form = FilterForm
    classes = ["kp-only-fetch", "kp-only-stream"]
    line_checks = {"headers": TemplateValidator("FILTER")}


class RouteGuardInline(RowsInline):
    """The guards that have to pass."""

    model = RouteGuard
    verbose_name, verbose_name_plural = _("guard"), _("guards")
    exclude = []
    autocomplete_fields = ["guard"]


@admin.register(Route)
class RouteAdmin(TryItMixin, CheckedAdmin):
    """Routes."""

    form = RouteForm
    tool_permissions = ["try_route"]
    empty_text = _(
        "A route says what requests of a path do with a topic: they become records, read records, or open a stream of them. "
        "Add a gateway first: a route belongs to one of its entries."
    )
    inlines = [RouteConditionInline, OverrideInline, AsyncFieldInline, FilterInline, RouteGuardInline]
    list_display = ["name", "does", "entry", "position", "enabled"]
    list_editable = ["position", "enabled"]
    list_filter = ["enabled", "capability", "entry__gateway", "guarded__guard"]
    list_select_related = ["entry__gateway"]
    search_fields = ["name", "topic", "key", "reply_to", "conditions__path", "entry__name", "entry__gateway__name"]
    ordering = ["entry__gateway__position", "entry__gateway_id", "entry__position", "entry_id", "position", "pk"]
    autocomplete_fields = ["entry", "cluster"]
    radio_fields = {"capability": admin.VERTICAL}
    readonly_fields = ["sentence"]
    fieldsets = [
        (None, {"fields": ["sentence", "entry", "name", "enabled", "position", "capability", "topic", "cluster"]}),
        (
            _("Produce"),
            {
                "classes": ["kp-only-produce"],
                "fields": ["key", "acks", "reply_to", "timeout", "correlation_header"],
            },
        ),
        (_("Fetch"), {"classes": ["kp-only-fetch"], "fields": ["merge", "cache_control"]}),
        (
            _("Stream"),
            {"classes": ["kp-only-stream"], "fields": ["start", "start_timestamp", "event_id", "encoding"]},
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Route]:
        """Read the rows along, for the sentences."""
        return super().get_queryset(request).prefetch_related(*ROUTE_PREFETCH)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Choose the entry where there is only one."""
        entries = list(Entry.objects.values_list("pk", flat=True)[:2])
        return {**({"entry": entries[0]} if len(entries) == 1 else {}), **super().get_changeform_initial_data(request)}

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Add the link to a trial for users with the permission."""
        return [*self.list_display, *(["trial"] if request.user.has_perm("kafkaproxy.try_route") else [])]

    @admin.display(description=_("try"))
    def trial(self, route: Route) -> str:
        """Return the link to a trial."""
        return format_html('<a href="{}">{}</a>', reverse("admin:kafkaproxy_route_try", args=[route.pk]), _("Try it"))

    @admin.display(description=_("what it does"))
    def does(self, route: Route) -> str:
        """Return the sentence."""
        return route_sentence(draft_route(route))

    @admin.display(description=_("in words"))
    def sentence(self, route: Route) -> str:
        """Return the sentence that follows the form."""
        return self.sentence_output(route, route_sentence(draft_route(route)) if route.pk else "")

    def find_sentence(self, form: LinkedForm) -> str:
        """Return what was entered, in words."""
        return route_sentence(draft_route(form.instance, form.rows))

    def find_warnings(self, changed: Sequence[Route]) -> Iterable[str]:
        """Warn of routes that are never reached, and of other issues."""
        return route_warnings(changed)
