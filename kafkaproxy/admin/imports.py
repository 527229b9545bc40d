"""Import a zilla.yaml in the admin: paste or upload, see what would change, apply."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters

from kafkaproxy.admin.generic import ModelAdmin
from kafkaproxy.admin.imports_form import ImportForm
from kafkaproxy.admin.imports_run import Outcome, apply_seen, prepare
from kafkaproxy.admin.pages import page_context
from kafkaproxy.zilla.apply import Refused

__all__ = ["ImportMixin"]

PERMISSION: Final = "kafkaproxy.import_gateway"


class ImportMixin(ModelAdmin):
    """Adds the page to the admin of gateways."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page."""
        view = self.admin_site.admin_view(self.import_view)
        return [path("import/", view, name="kafkaproxy_gateway_import"), *super().get_urls()]

    @method_decorator(sensitive_post_parameters("text"))
    def import_view(self, request: HttpRequest) -> HttpResponse:
        """Show the form; show what the text would change; apply it once that was seen."""
        if not request.user.has_perm(PERMISSION):
            raise PermissionDenied
        form = ImportForm(request.POST or None, request.FILES or None)
        outcome = _outcome(form) if form.is_valid() else None
        if outcome is not None and "_apply" in request.POST and self._apply(request, form, outcome):
            return HttpResponseRedirect(self._next_page(request))
        context = page_context(self, request, _("Import a zilla.yaml"))
        context |= {"outcome": outcome, "form": form if outcome is None else _again(form, outcome)}
        return TemplateResponse(request, "admin/kafkaproxy/import.html", context)

    def _next_page(self, request: HttpRequest) -> str:
        """Return where one sees what was imported; this page for those who may only import."""
        page = "changelist" if self.has_view_or_change_permission(request) else "import"
        return reverse(f"admin:kafkaproxy_gateway_{page}")

    def _apply(self, request: HttpRequest, form: ImportForm, outcome: Outcome) -> bool:
        """Apply; return whether it was done, and say why where not."""
        if outcome.changes is None:
            return False
        if form.cleaned_data["seen"] != outcome.seen:
            messages.warning(request, _("This is not what you saw: look at the changes, then apply them."))
            return False
        overwrite = form.cleaned_data["overwrite"]
        if outcome.changes.conflicts and not overwrite:
            messages.error(request, _("What was changed by hand would be overwritten: tick the box if the file is right."))
            return False
        try:
            count = apply_seen(outcome, request.user, overwrite=overwrite)
        except Refused as error:
            messages.error(request, str(error))
            return False
        done = ngettext("Imported: %(count)d change.", "Imported: %(count)d changes.", count)
        messages.success(request, done % {"count": count})
        return True


def _outcome(form: ImportForm) -> Outcome:
    data = form.cleaned_data
    cluster = data["cluster"]
    return prepare(data["text"], data["file_name"], data["gateway"], cluster.name if cluster is not None else "")


def _again(form: ImportForm, outcome: Outcome) -> ImportForm:
    """Return the form with the text that was looked at, ready to be edited or applied."""
    data: dict[str, Any] = {name: form.cleaned_data[name] for name in ("text", "gateway", "cluster", "file_name")}
    return ImportForm(initial=data | {"seen": outcome.seen})
