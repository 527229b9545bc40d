"""Base classes of the admin pages of models: rows of a parent, configuration, rows that can be switched off, checked pages.

They share fields edited as lines, warnings after a change, the banner about a broken configuration, the actions enable, disable
and duplicate (a deep copy), and a check of a page while the user types: the same form, the same rules, nothing saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import CASCADE, QuerySet
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from kafkaproxy.admin.forms.fields import Check, LinesField, PairsField
from kafkaproxy.admin.forms.generic import ModelAdmin, StackedInline, TabularInline
from kafkaproxy.admin.forms.linked import LinkedForm, LinkedFormSet
from kafkaproxy.models import Entry, Gateway, Route
from kafkaproxy.routing.announce import touch
from kafkaproxy.routing.live import live
from kafkaproxy.validators import validate_field_map, validate_string_list

__all__ = [
    "CheckedAdmin",
    "ConfigAdmin",
    "LinesMixin",
    "RowsInline",
    "StackedRowsInline",
    "SwitchAdmin",
    "changed_objects",
    "duplicate",
    "free_name",
]

_MOST_WARNINGS = 8


class LinesMixin:
    """Edit lists and mappings as lines. ``line_checks`` check each value, by field: their errors name the line."""

    line_checks: ClassVar[Mapping[str, Check]] = {}

    def formfield_for_dbfield(self, db_field: models.Field[Any, Any], request: HttpRequest | None, **kwargs: Any) -> Any:
        """Choose the form field by the validator that the model field has."""
        if validate_field_map in db_field.validators:
            return self._lines(PairsField, db_field)
        if validate_string_list in db_field.validators:
            return self._lines(LinesField, db_field)
        return super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]

    def _lines(self, field: type[LinesField | PairsField], db_field: models.Field[Any, Any]) -> LinesField | PairsField:
        made = field(
            empty=db_field.get_default,
            check=self.line_checks.get(db_field.name),
            required=False,
            label=capfirst(db_field.verbose_name),
            help_text=db_field.help_text,
        )
        made.widget.attrs.update({"rows": 2, "cols": 40, "class": "kp-lines", "spellcheck": "false"})
        return made


class RowsInline(LinesMixin, TabularInline):
    """Rows of a parent, in a table; their order is that in which they stand."""

    formset = LinkedFormSet
    exclude = ["position"]
    extra = 0

    def formfield_for_dbfield(self, db_field: models.Field[Any, Any], request: HttpRequest | None, **kwargs: Any) -> Any:
        """Omit the buttons that edit related objects: a row is too narrow for them."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if isinstance(widget := getattr(field, "widget", None), RelatedFieldWidgetWrapper):
            widget.can_add_related = widget.can_change_related = False
            widget.can_delete_related = widget.can_view_related = False
        return field


class StackedRowsInline(LinesMixin, StackedInline):
    """Rows of a parent, one below the other."""

    formset = LinkedFormSet
    extra = 0


def changed_objects(request: HttpRequest) -> list[Any]:
    """Return the list of what this request changed; actions add to it."""
    changed: list[Any] = vars(request).setdefault("_kafkaproxy_changed", [])
    return changed


class ConfigAdmin(LinesMixin, ModelAdmin):
    """A page of the configuration."""

    list_per_page = 100
    empty_text: Any = ""
    """What an empty list shows: what a row is for."""
    tool_permissions: Sequence[str] = ()
    """Permissions for pages beside the list: a user with one of them finds the app in the index."""

    class Media:
        css = {"all": ["kafkaproxy/admin/admin.css"]}
        js = ["kafkaproxy/admin/rows.js"]

    def find_warnings(self, changed: Sequence[Any]) -> Iterable[str]:  # noqa: ARG002 - used by the pages that have some
        """Return warnings about the objects that a request changed."""
        return ()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001
        """Remember what was changed, for the warnings."""
        super().save_related(request, form, formsets, change)
        changed_objects(request).append(form.instance)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Warn after everything was saved: a warning may be about several rows."""
        response = super().changeform_view(request, *args, **kwargs)
        self._warn(request)
        return response

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        """Add the permissions of the pages beside the list."""
        tools = {name: request.user.has_perm(f"kafkaproxy.{name}") for name in self.tool_permissions}
        return {**super().get_model_perms(request), **tools}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Warn of what was changed in the list, and of a configuration that could not be loaded."""
        context = {"kafkaproxy_error": live().error, "kafkaproxy_empty": self.empty_text, **(extra_context or {})}
        response = super().changelist_view(request, context)
        self._warn(request)
        return response

    def _warn(self, request: HttpRequest) -> None:
        changed = changed_objects(request)
        warnings = list(dict.fromkeys(self.find_warnings(changed))) if changed else []
        for warning in warnings[:_MOST_WARNINGS]:
            messages.warning(request, warning)
        if more := len(warnings[_MOST_WARNINGS:]):
            messages.warning(request, _("There are %(count)d more warnings.") % {"count": more})


class SwitchAdmin(ConfigAdmin):
    """Rows that can be switched on and off and copied whole."""

    actions = ["enable", "disable", "duplicate"]

    @admin.action(description=gettext_lazy("Enable the selected %(verbose_name_plural)s"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Switch on."""
        count = self._switch(request, queryset, to=True)
        messages.success(request, ngettext("%(n)d was enabled.", "%(n)d were enabled.", count) % {"n": count})

    @admin.action(description=gettext_lazy("Disable the selected %(verbose_name_plural)s"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Switch off."""
        count = self._switch(request, queryset, to=False)
        messages.success(request, ngettext("%(n)d was disabled.", "%(n)d were disabled.", count) % {"n": count})

    @admin.action(description=gettext_lazy("Duplicate the selected %(verbose_name_plural)s"), permissions=["add"])
    def duplicate(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Copy, disabled, under new names."""
        with transaction.atomic():
            for original in queryset:
                copy = duplicate(original)
                self.log_addition(request, copy, _("Copied from “%(original)s”.") % {"original": original})
                messages.success(
                    request,
                    _("“%(original)s” was copied to “%(copy)s”, which is disabled.") % {"original": original, "copy": copy},
                )
            touch()

    def _switch(self, request: HttpRequest, queryset: QuerySet[Any], *, to: bool) -> int:
        """Set ``enabled`` where it differs; return how many rows changed."""
        with transaction.atomic():
            rows = list(queryset.exclude(enabled=to))
            queryset.filter(pk__in=[row.pk for row in rows]).update(enabled=to)
            for row in rows:
                self.log_change(request, row, [{"changed": {"fields": ["enabled"]}}])
            touch()
        changed_objects(request).extend(rows)
        return len(rows)


CopiedT = TypeVar("CopiedT", Gateway, Entry, Route)


def duplicate(original: CopiedT) -> CopiedT:
    """Copy it with everything that belongs to it: disabled, last among its siblings, and with a name that is free."""
    changes = {"name": free_name(original), "position": None, "enabled": False}
    with transaction.atomic():
        copied: CopiedT = _copy(original, changes)
    return copied


def free_name(original: Gateway | Entry | Route) -> str:
    """Return ``NAME-copy``, or ``NAME-copy-2`` and so on, that no sibling has."""
    together = {name: getattr(original, name) for name in original.sibling_fields}
    siblings = type(original).objects.filter(**together)
    taken = set(siblings.values_list("name", flat=True))
    return next(name for name in _copy_names(original.name) if name not in taken)


def _copy_names(name: str) -> Iterator[str]:
    number = 1
    while True:
        suffix = "-copy" if number == 1 else f"-copy-{number}"
        yield name[: 100 - len(suffix)] + suffix
        number += 1


def _copy(original: Any, changes: dict[str, Any]) -> Any:
    meta = original._meta  # noqa: SLF001 - Django's documented API
    values = {each.attname: getattr(original, each.attname) for each in meta.concrete_fields if not each.primary_key}
    copy = type(original)(**values | changes)
    copy.save(force_insert=True)
    for relation in meta.related_objects:
        if relation.on_delete is CASCADE:
            for child in relation.related_model.objects.filter(**{relation.field.name: original}):
                _copy(child, {relation.field.attname: copy.pk})
    return copy


class CheckedAdmin(SwitchAdmin):
    """A page with a sentence that says what the row does, and errors that appear beside the field while the user types."""

    class Media:
        js = ["kafkaproxy/admin/checked.js"]

    def find_sentence(self, form: LinkedForm) -> str:
        """Return what was entered, in words."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        """Add the URL that the page posts its form to."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_check"
        view = self.admin_site.admin_view(self.check_view)
        urls = [path("check/", view, name=f"{name}_new"), path("<path:object_id>/check/", view, name=name)]
        return [*urls, *super().get_urls()]

    @method_decorator(require_POST)
    def check_view(self, request: HttpRequest, object_id: str | None = None) -> JsonResponse:
        """Answer with the sentence, the warnings, and the errors by the name of the input."""
        form = self._posted_form(request, self._checked_object(request, object_id))
        form.is_valid()
        return JsonResponse(
            {
                "sentence": self.find_sentence(form),
                "errors": dict(_errors(form)),
                "warnings": [issue.message for issue in form.warnings],
            }
        )

    def _checked_object(self, request: HttpRequest, object_id: str | None) -> Any:
        if object_id is None:
            allowed, obj = self.has_add_permission(request), None
        else:
            obj = self.get_object(request, unquote(object_id))
            if obj is None:
                raise Http404
            allowed = self.has_change_permission(request, obj)
        if not allowed:
            raise PermissionDenied
        return obj

    def _posted_form(self, request: HttpRequest, obj: Any) -> LinkedForm:
        change = obj is not None
        form: LinkedForm = self.get_form(request, obj, change=change)(request.POST, instance=obj)  # type: ignore[assignment]
        # Each formset registers itself with the form's instance: see LinkedFormSet.
        self._create_formsets(request, form.instance, change=change)  # type: ignore[attr-defined]
        return form

    def sentence_output(self, obj: Any, sentence: str) -> SafeString:
        """Return the place of the sentence on the page."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_check"
        url = reverse(name, args=[obj.pk]) if obj is not None and obj.pk else reverse(f"{name}_new")
        return format_html('<output id="kp-sentence" data-check-url="{}">{}</output>', url, sentence or "…")


def _errors(form: LinkedForm) -> Iterator[tuple[str, list[str]]]:
    yield from _form_errors(form)
    for formset in form.formsets.values():
        for row in formset.kept_forms:
            yield from _form_errors(row)
        if messages := [str(message) for message in formset.non_form_errors()]:
            yield f"{formset.prefix}-group", messages


def _form_errors(form: BaseForm) -> Iterator[tuple[str, list[str]]]:
    """Yield the errors of the fields that are filled in; empty required fields are no error while the user types."""
    for name, errors in form.errors.as_data().items():
        messages = [message for error in errors if error.code != "required" for message in error.messages]
        if messages:
            yield form.add_prefix(name), messages
