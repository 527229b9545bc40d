"""Secrets in forms: a stored secret is never shown again, except a reference ``${{env.NAME}}``, which is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters

from kafkaproxy.admin.forms.generic import ModelForm
from kafkaproxy.masking import is_reference, mask, mask_known, unmask

__all__ = ["MaskedJSONField", "SecretField", "SecretsAdminMixin", "SecretsForm", "describe_secret"]


def describe_secret(value: str) -> str:
    """Describe what is stored without showing it."""
    if not value:
        return _("Nothing is stored.")
    if is_reference(value):
        return _("Stored: %(reference)s") % {"reference": value}
    return _("A value is stored. It is not shown again.")


class SecretWidget(forms.Widget):
    """An empty input, a description of what is stored, and a check box that clears it."""

    template_name = "admin/kafkaproxy/secret.html"

    def __init__(self, attrs: dict[str, Any] | None = None, *, multiline: bool = False) -> None:
        super().__init__(attrs)
        self.multiline = multiline
        self.stored = ""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:  # noqa: ARG002
        """Describe what is stored, and show nothing of it."""
        context = super().get_context(name, None, attrs)
        context["widget"].update(
            multiline=self.multiline,
            clear_name=f"{name}-clear",
            description=describe_secret(self.stored) if self.stored else "",
        )
        return context

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> str | None:  # noqa: ARG002
        """Return the new secret, an empty text to clear it, None to keep it."""
        return data.get(name) or ("" if data.get(f"{name}-clear") else None)


class SecretField(forms.CharField):
    """A secret; None means that the stored one stays."""

    def __init__(self, *, multiline: bool = False, **kwargs: Any) -> None:
        widget = SecretWidget({"autocomplete": "new-password"}, multiline=multiline)
        super().__init__(widget=widget, strip=False, required=False, **kwargs)

    def to_python(self, value: Any) -> Any:
        """Keep None apart from an empty text."""
        return None if value is None else super().to_python(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Return True for a new text or for clearing."""
        return data is not None and data != (initial or "")


class MaskedJSONField(forms.JSONField):
    """JSON whose stored secrets are shown as marks; a mark that is posted again is replaced by the stored secret."""

    stored: Any = None

    def prepare_value(self, value: Any) -> Any:
        """Mask what is stored. A secret that was typed but not saved is shown: a mark would stand for nothing."""
        if not isinstance(value, (dict, list)):
            return super().prepare_value(value)
        return json.dumps(mask_known(value, self.stored), indent=2, ensure_ascii=False)

    def to_python(self, value: Any) -> Any:
        """Put the stored secrets back."""
        return unmask(super().to_python(value), self.stored)


class SecretsForm(ModelForm):
    """Keeps the stored value of a secret that was not changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            if isinstance(field, MaskedJSONField):
                field.stored = getattr(self.instance, name)
            elif isinstance(field.widget, SecretWidget):
                field.widget.stored = getattr(self.instance, name)

    def clean(self) -> dict[str, Any] | None:
        """Put the stored secrets back before the model is checked."""
        cleaned = super().clean() or self.cleaned_data
        for name, field in self.fields.items():
            if isinstance(field, SecretField) and name in cleaned and cleaned[name] is None:
                cleaned[name] = getattr(self.instance, name)
        return cleaned


class SecretsAdminMixin:
    """An admin page whose ``secret_fields`` and JSON ``masked_fields`` never leave the server, not even read-only."""

    secret_fields: Sequence[str] = ()
    masked_fields: Sequence[str] = ()

    def formfield_for_dbfield(self, db_field: models.Field[Any, Any], request: HttpRequest | None, **kwargs: Any) -> Any:
        """Use the fields that hide what is stored."""
        label, help_text = capfirst(db_field.verbose_name), db_field.help_text
        if db_field.name in self.secret_fields:
            multiline = isinstance(db_field, models.TextField)
            return SecretField(multiline=multiline, max_length=db_field.max_length, label=label, help_text=help_text)
        if db_field.name in self.masked_fields:
            attrs = {"rows": 12, "cols": 60, "class": "vLargeTextField kp-code", "spellcheck": "false"}
            widget, initial = forms.Textarea(attrs), db_field.get_default()
            return MaskedJSONField(required=False, widget=widget, initial=initial, label=label, help_text=help_text)
        return super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]

    @method_decorator(sensitive_post_parameters())
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Keep what was posted out of error reports."""
        return super().changeform_view(request, *args, **kwargs)  # type: ignore[misc,no-any-return]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show users with only the view permission a description of each secret: Django would show its value."""
        fieldsets = super().get_fieldsets(request, obj)  # type: ignore[misc]
        if obj is None or self.has_change_permission(request, obj):  # type: ignore[attr-defined]
            return fieldsets
        return [(title, options | {"fields": list(map(self._shown, options["fields"]))}) for title, options in fieldsets]

    def _shown(self, name: str) -> str | Callable[[Any], str]:
        if name in self.secret_fields:
            return self._display(name, describe_secret)
        if name in self.masked_fields:
            return self._display(name, _masked_json)
        return name

    def _display(self, name: str, words: Callable[[Any], str]) -> Callable[[Any], str]:
        field = self.opts.get_field(name)  # type: ignore[attr-defined]

        @admin.display(description=field.verbose_name)
        def display(instance: Any) -> str:
            return words(getattr(instance, name))

        return display


def _masked_json(value: Any) -> SafeString:
    return format_html('<pre class="kp-code">{}</pre>', json.dumps(mask(value), indent=2, ensure_ascii=False))
