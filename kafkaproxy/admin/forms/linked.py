"""A form and its inline rows that are checked together, so that an error of the whole stands beside the field that is wrong.

Django checks every form by itself. Here each inline formset registers itself with the object that it belongs to, and the
object's form, after all of them are checked, asks the rules that need the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS

from kafkaproxy.admin.forms.generic import InlineFormSet, ModelForm
from kafkaproxy.routing.rules import Issue, Severity

__all__ = ["LinkedForm", "LinkedFormSet"]


class LinkedFormSet(InlineFormSet):
    """Rows that the form of their parent can find."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.linked_name = str(self.fk.remote_field.get_accessor_name())
        self.instance.__dict__.setdefault("_linked_formsets", {})[self.linked_name] = self

    @property
    def kept_forms(self) -> list[forms.ModelForm[Any]]:
        """The rows that will be there after saving."""
        deleted = set(self.deleted_forms)
        return [form for form in self.forms if form not in deleted and (form.instance.pk or form.has_changed())]


class LinkedForm(ModelForm):
    """A form that is checked together with its inline rows. ``warnings`` are issues that do not prevent saving."""

    row_names: Sequence[str] = ()
    warnings: Sequence[Issue] = ()

    def full_clean(self) -> None:
        """Check the fields, then the rows, then all of it."""
        super().full_clean()
        if not self.is_bound:
            return
        self._blame_name()
        for formset in self.formsets.values():
            formset.is_valid()
        issues = list(self.find_issues())
        self.warnings = [issue for issue in issues if issue.severity is Severity.WARNING]
        for issue in issues:
            if issue.severity is Severity.ERROR:
                self._place(issue)

    @property
    def formsets(self) -> Mapping[str, LinkedFormSet]:
        """The inline rows that are edited together with this form, by related name."""
        linked: dict[str, LinkedFormSet] = vars(self.instance).get("_linked_formsets", {})
        return linked

    @property
    def rows(self) -> Mapping[str, Sequence[Any]]:
        """The rows as they will be, by related name: those in the form, else those that are stored."""
        return {name: self._rows(name) for name in self.row_names}

    def _rows(self, name: str) -> Sequence[Any]:
        if name in self.formsets:
            return [form.instance for form in self.formsets[name].kept_forms]
        return list(getattr(self.instance, name).all()) if self.instance.pk else []

    def find_issues(self) -> Iterable[Issue]:
        """Ask the rules about what was entered: the instance and :attr:`rows`."""
        return ()

    def has_row_error(self, name: str, part: str) -> bool:
        """Return True if that field of any of those rows has an error of its own."""
        return name in self.formsets and any(part in form.errors for form in self.formsets[name].kept_forms)

    def _blame_name(self) -> None:
        """Put “already exists” beside the name: among siblings it is the name that has to differ."""
        general = self.errors.get(NON_FIELD_ERRORS)
        taken = [error for error in general.as_data() if error.code == "unique_together"] if general else []
        if general and taken and "name" in self.fields:
            del self.errors[NON_FIELD_ERRORS]
            self.add_error(None, [error for error in general.as_data() if error not in taken])
            self.add_error("name", taken)

    def _place(self, issue: Issue) -> None:
        formset = self.formsets.get(issue.field)
        if formset is not None and issue.index is None:
            formset.non_form_errors().append(issue.message)
        elif formset is not None:
            _add_error(formset.kept_forms[issue.index or 0], issue.part, issue)
        else:
            _add_error(self, issue.field, issue)


def _add_error(form: forms.BaseForm, name: str, issue: Issue) -> None:
    if issue.code == "template" and name in form.errors:
        return  # the field's own validator said so
    form.add_error(name if name in form.fields else None, forms.ValidationError(issue.message, code=issue.code))
