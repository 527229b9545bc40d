"""Form fields for the lists and mappings of the models: one value a line instead of JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from kafkaproxy.validators import validate_field_name

__all__ = ["Check", "LinesField", "PairsField"]

Check = Callable[[str], object]


class _TextField(forms.CharField):
    """Text whose lines are numbered in errors."""

    widget = forms.Textarea

    def __init__(self, *, empty: Callable[[], Any], check: Check | None = None, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)
        self._empty = empty
        self._check = check

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare the values, so that an additional blank line is no change."""
        try:
            return bool(self.to_python(data) != (self._empty() if initial is None else initial))
        except ValidationError:
            return True

    def _lines(self, value: Any) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(str(value or "").splitlines(), start=1):
            if line.strip():
                yield number, line.strip()

    def _checked(self, value: str) -> str:
        if self._check is not None:
            self._check(value)
        return value


def _at_line(number: int, error: ValidationError) -> list[ValidationError]:
    return [
        ValidationError(_("Line %(line)d: %(message)s"), code=error.code, params={"line": number, "message": message})
        for message in error.messages
    ]


class LinesField(_TextField):
    """A list of texts, one a line. No line gives ``empty()``: ``[]``, or None if that has a meaning of its own."""

    def to_python(self, value: Any) -> Any:
        """Return the list."""
        if isinstance(value, list):
            return value or self._empty()
        errors: list[ValidationError] = []
        found: dict[str, None] = {}
        for number, line in self._lines(value):
            try:
                found[self._checked(line)] = None
            except ValidationError as error:
                errors += _at_line(number, error)
        if errors:
            raise ValidationError(errors)
        return list(found) or self._empty()

    def prepare_value(self, value: Any) -> Any:
        """Return the lines to edit."""
        return "\n".join(value) if isinstance(value, list) else value


class PairsField(_TextField):
    """A mapping, one ``name: value`` a line. A name may hold colons (``zilla:identity``): it ends at a colon with a space."""

    def to_python(self, value: Any) -> Any:
        """Return the mapping."""
        if isinstance(value, dict):
            return value or self._empty()
        errors: list[ValidationError] = []
        seen: dict[str, int] = {}
        pairs: dict[str, str] = {}
        for number, line in self._lines(value):
            try:
                name, text = self._pair(line, seen)
            except ValidationError as error:
                errors += _at_line(number, error)
            else:
                seen[name] = number
                pairs[name] = text
        if errors:
            raise ValidationError(errors)
        return pairs or self._empty()

    def prepare_value(self, value: Any) -> Any:
        """Return the lines to edit."""
        if isinstance(value, dict):
            return "\n".join(f"{name}: {text}" for name, text in value.items())
        return value

    def _pair(self, line: str, seen: dict[str, int]) -> tuple[str, str]:
        name, colon, text = f"{line} ".partition(": ")
        if not colon:
            raise ValidationError(_("write “name: value”, with a space after the colon."), code="pair")
        validate_field_name(name)
        if name in seen:
            raise ValidationError(
                _("“%(name)s” stands in line %(first)d already."),
                code="twice",
                params={"name": name, "first": seen[name]},
            )
        return name, self._checked(text.strip())
