"""Download a gateway as a zilla.yaml."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kafkaproxy.admin.forms.generic import ModelAdmin
from kafkaproxy.admin.pages.base import page_context
from kafkaproxy.models import Cluster, Entry, Gateway, Guard, Route, Topic
from kafkaproxy.zilla.exporter.exporting import DIALECTS, Export, export_gateway
from kafkaproxy.zilla.report import Verdict

__all__ = ["ExportMixin"]


class ExportMixin(ModelAdmin):
    """Adds the action to the list of gateways, for users who may see all that the file holds."""

    @admin.action(description=gettext_lazy("Export the selected gateway as a zilla.yaml"), permissions=["export"])
    def export_zilla(self, request: HttpRequest, queryset: QuerySet[Gateway]) -> HttpResponse | None:
        """Choose the dialect and see what is left out; then download."""
        gateways = list(queryset[:2])
        if len(gateways) != 1:
            messages.error(request, _("A zilla.yaml holds one gateway: select one."))
            return None
        gateway = gateways[0]
        dialect = 2 if request.POST.get("dialect") == "2" else 1
        export = export_gateway(gateway, dialect)
        allowed = not export.is_lossy or "lossy" in request.POST
        if "download" in request.POST and allowed and not export.is_refused:
            return _download(gateway, export)
        return TemplateResponse(request, "admin/kafkaproxy/export.html", self._context(request, gateway, dialect, export))

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Return True if the user may see everything that the file holds."""
        models = (Gateway, Entry, Route, Cluster, Topic, Guard)
        return all(request.user.has_perm(f"kafkaproxy.view_{model._meta.model_name}") for model in models)  # noqa: SLF001

    def _context(self, request: HttpRequest, gateway: Gateway, dialect: int, export: Export) -> dict[str, Any]:
        titles = {
            Verdict.REFUSED: _("Not possible: it would serve others"),
            Verdict.LOST: _("Left out: Zilla has no such thing"),
            Verdict.WARNING: _("To know"),
        }
        groups = [(title, found) for verdict, title in titles.items() if (found := export.report.of(verdict))]
        context = page_context(self, request, _("Export as a zilla.yaml"))
        context |= {"gateway": gateway, "export": export, "dialect": dialect, "dialects": DIALECTS}
        return context | {"groups": groups}


def _download(gateway: Gateway, export: Export) -> HttpResponse:
    response = HttpResponse(export.text, content_type="application/yaml; charset=utf-8")
    response["content-disposition"] = f'attachment; filename="{gateway.name}.zilla.yaml"'
    return response
