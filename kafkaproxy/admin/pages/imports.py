"""Import a zilla.yaml in the admin: paste or upload, see what would change, apply.

The previewed changes are applied in one transaction; each is noted in the history.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.debug import sensitive_post_parameters

from kafkaproxy.admin.forms.generic import ModelAdmin
from kafkaproxy.admin.pages.base import page_context
from kafkaproxy.models import Cluster
from kafkaproxy.specs.to_rows import find_row
from kafkaproxy.validators import validate_name
from kafkaproxy.zilla.importer.importing import Options, plan_text
from kafkaproxy.zilla.plan import Plan, describe
from kafkaproxy.zilla.report import ImportReport, Verdict
from kafkaproxy.zilla.sync.apply import ImportRefused, apply_plan, preview
from kafkaproxy.zilla.sync.changes import Action, Change, Changes, digest
from kafkaproxy.zilla.yaml.read import MAX_BYTES

__all__ = ["ImportForm", "ImportMixin", "ImportPreview", "apply_seen", "prepare"]

PERMISSION: Final = "kafkaproxy.import_gateway"


class ImportMixin(ModelAdmin):
    """Adds the page to the admin of gateways."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page."""
        view = self.admin_site.admin_view(self.import_view)
        return [path("import/", view, name="kafkaproxy_gateway_import"), *super().get_urls()]

    @method_decorator(sensitive_post_parameters("text"))
    def import_view(self, request: HttpRequest) -> HttpResponse:
        """Show the form, then what the text would change, then apply it."""
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
        """Return the list of gateways, or this page for users that have no permission for the list."""
        page = "changelist" if self.has_view_or_change_permission(request) else "import"
        return reverse(f"admin:kafkaproxy_gateway_{page}")

    def _apply(self, request: HttpRequest, form: ImportForm, outcome: ImportPreview) -> bool:
        """Apply the changes. Return False, with a message for the user, if they cannot be applied."""
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
        except ImportRefused as error:
            messages.error(request, str(error))
            return False
        done = ngettext("Imported: %(count)d change.", "Imported: %(count)d changes.", count)
        messages.success(request, done % {"count": count})
        return True


def _outcome(form: ImportForm) -> ImportPreview:
    data = form.cleaned_data
    cluster = data["cluster"]
    return prepare(data["text"], data["file_name"], data["gateway"], cluster.name if cluster is not None else "")


def _again(form: ImportForm, outcome: ImportPreview) -> ImportForm:
    """Return the form with the text that was previewed, ready to be edited or applied."""
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


_FLAGS: Final = {
    Action.CREATE: ADDITION,
    Action.UPDATE: CHANGE,
    Action.RESET: CHANGE,
    Action.DELETE: DELETION,
}


class _SetVariables(Mapping[str, str]):
    """Tells which environment variables are set, without their values: the permission to import does not include those."""

    def __contains__(self, name: object) -> bool:
        return name in os.environ

    def __getitem__(self, name: str) -> str:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class ImportPreview:
    """What an import would do."""

    plan: Plan
    report: ImportReport
    changes: Changes | None
    """None where anything was refused."""
    refusals: tuple[str, ...]
    seen: str
    """A keyed digest of the text and of all changes: only the previewed changes are applied."""

    @property
    def described(self) -> str:
        """The plan in words, a line for each rule."""
        return "\n".join(describe(self.plan))

    @property
    def variables(self) -> list[tuple[str, str, bool]]:
        """The environment variables that are referred to: where, which, and whether they are set here."""
        return [(str(place), name, name in os.environ) for name, place in self.report.variables.items()]

    @property
    def warnings(self) -> list[str]:
        """The warnings, as text."""
        return [str(each) for each in self.report.of(Verdict.WARNING)]

    @property
    def ignored(self) -> list[str]:
        """What is left out, which changes nothing for clients."""
        return [str(each) for each in self.report.of(Verdict.IGNORED)]

    @property
    def groups(self) -> list[tuple[str, list[Change]]]:
        """The changes without a conflict, by what happens."""
        titles = {
            _("Created"): (Action.CREATE,),
            _("Changed"): (Action.UPDATE, Action.RESET),
            _("Removed"): (Action.DELETE,),
            _("No longer in the file, and kept"): (Action.KEEP,),
        }
        plain = [] if self.changes is None else [each for each in self.changes.visible if not each.conflict]
        found = [(title, [each for each in plain if each.action in actions]) for title, actions in titles.items()]
        return [(title, changes) for title, changes in found if changes]


def prepare(text: str, file: str, gateway: str, cluster: str) -> ImportPreview:
    """Return what importing the text would do. Nothing is written, and no file is read."""
    plan, report = plan_text(text, file, Options(gateway=gateway, cluster=cluster, environ=_SetVariables()))
    refusals = [str(each) for each in report.of(Verdict.REFUSED)]
    changes: Changes | None = None
    if not refusals:
        try:
            changes = preview(plan)
        except ImportRefused as error:
            refusals.append(str(error))
    return ImportPreview(plan, report, changes, tuple(refusals), _digest(text, changes))


def _digest(text: str, changes: Changes | None) -> str:
    found = changes.changes if changes is not None else ()
    return digest([text, [[str(each), each.conflict, each.fields, each.old] for each in found]])


def apply_seen(outcome: ImportPreview, user: Any, *, overwrite: bool) -> int:
    """Make the changes and note each in the history; return how many. Raise ``ImportRefused`` if others were shown."""
    with transaction.atomic():
        found = preview(outcome.plan)
        if outcome.changes is None or found.changes != outcome.changes.changes:
            raise ImportRefused(_("The configuration was changed meanwhile: look at the changes again."))
        noted = [each for each in found.visible if each.action in _FLAGS]
        gone = {(each.kind, each.key): find_row(each.kind, each.key) for each in noted if each.action is Action.DELETE}
        doomed = {key: (row, row.pk, str(row)) for key, row in gone.items() if row is not None}
        apply_plan(outcome.plan, overwrite=overwrite)
        for change in noted:
            row, pk, text = doomed.get((change.kind, change.key)) or _found(change)
            _note(change, row, pk, text, user)
    return len(noted)


def _found(change: Change) -> tuple[Any, Any, str]:
    row = find_row(change.kind, change.key)
    return row, row.pk, str(row)


def _note(change: Change, row: Any, pk: Any, text: str, user: Any) -> None:
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(row),
        object_id=str(pk),
        object_repr=text[:200],
        action_flag=_FLAGS[change.action],
        change_message=_message(change),
    )


def _message(change: Change) -> str:
    """Return the message for the history. It names fields only: a value may be a secret."""
    if change.action is Action.CREATE:
        return _("Imported from a zilla.yaml (%(source)s).") % {"source": change.source}
    if change.action is Action.DELETE:
        return _("Removed by an import: it is not in the zilla.yaml.")
    fields = ", ".join(change.new or change.fields)
    return _("Changed by an import of a zilla.yaml: %(fields)s.") % {"fields": fields}
