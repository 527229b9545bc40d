"""What the admin pages share: fields edited as lines, warnings after a change, and the banner about a broken configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from kafkaproxy.admin.forms.fields import Check, LinesField, PairsField
from kafkaproxy.admin.forms.generic import ModelAdmin, StackedInline, TabularInline
from kafkaproxy.admin.forms.linked import LinkedFormSet
from kafkaproxy.routing.live import live
from kafkaproxy.validators import validate_field_map, validate_string_list

__all__ = ["ConfigAdmin", "LinesMixin", "RowsInline", "StackedRowsInline", "changed_objects"]

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
