"""Check a page while the user types: the same form, the same rules, nothing saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.forms import BaseForm
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from kafkaproxy.admin.actions import SwitchAdmin
from kafkaproxy.admin.forms.linked import LinkedForm

__all__ = ["CheckedAdmin"]


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
