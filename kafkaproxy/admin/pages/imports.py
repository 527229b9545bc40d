"""Import a zilla.yaml in the admin: paste or upload, see what would change, apply."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.debug import sensitive_post_parameters

from kafkaproxy.admin.forms.generic import ModelAdmin
from kafkaproxy.admin.pages.base import page_context
from kafkaproxy.admin.pages.imports_run import Outcome, apply_seen, prepare
from kafkaproxy.models import Cluster
from kafkaproxy.validators import validate_name
from kafkaproxy.zilla.sync.apply import Refused
from kafkaproxy.zilla.yaml.read import MAX_BYTES

__all__ = ["ImportForm", "ImportMixin"]

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


_DEFAULT_FILE: Final = "zilla.yaml"


class ImportForm(forms.Form):
    """What to import, and how. ``cleaned_data["text"]`` is the text, wherever it came from."""

    file = forms.FileField(label=gettext_lazy("File"), required=False, help_text=gettext_lazy("It replaces the text below."))
    text = forms.CharField(
        label=gettext_lazy("Text"),
        required=False,
        strip=False,
        widget=forms.Textarea({"rows": 14, "class": "kp-code kp-yaml", "spellcheck": "false", "wrap": "off"}),
        help_text=gettext_lazy("A zilla.yaml of either dialect, a part of one, or a Compose file that holds one."),
    )
    gateway = forms.CharField(
        label=gettext_lazy("Gateway"),
        required=False,
        max_length=100,
        validators=[validate_name],
        help_text=gettext_lazy("Its name. Empty: the one in the file."),
    )
    cluster = forms.ModelChoiceField(
        Cluster.objects.all(),
        label=gettext_lazy("Cluster"),
        required=False,
        help_text=gettext_lazy("For a part of a file that does not say where Kafka is."),
    )
    file_name = forms.CharField(required=False, max_length=200, widget=forms.HiddenInput)
    seen = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput)
    overwrite = forms.BooleanField(required=False)

    def clean_file(self) -> str | None:
        """Return the text of the upload; None without one."""
        upload = self.cleaned_data["file"]
        if not upload:
            return None
        self._file_name = str(upload.name)
        if upload.size > MAX_BYTES:
            raise ValidationError(_("The file is larger than %(size)d KiB.") % {"size": MAX_BYTES // 1024})
        try:
            return str(upload.read().decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValidationError(_("The text is not UTF-8: save the file as UTF-8.")) from error

    def clean(self) -> dict[str, Any]:
        """Take the upload, if there is one, for the text."""
        cleaned = super().clean() or self.cleaned_data
        if (uploaded := cleaned.get("file")) is not None:
            cleaned["text"], cleaned["file_name"] = uploaded, self._file_name
        if not cleaned.get("text", "").strip() and not self.errors:
            raise ValidationError(_("Paste a zilla.yaml, or choose a file."))
        # A browser sends the lines of a text area with CRLF: a file that comes back from the preview is the file all the same.
        cleaned["text"] = cleaned.get("text", "").replace("\r\n", "\n").replace("\r", "\n")
        cleaned["file_name"] = cleaned.get("file_name") or _DEFAULT_FILE
        return cleaned
