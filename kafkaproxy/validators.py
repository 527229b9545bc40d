"""The validators that the admin, the importer and ``loaddata`` share.

Each raises Django's ``ValidationError`` with the message of the pure core, so an error reads the same everywhere.
"""

from __future__ import annotations

from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils.deconstruct import deconstructible
from django.utils.translation import gettext_lazy as _

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.names import is_header_name, is_method, is_name, is_topic_name, may_name_topic, unusable_in_topic
from kafkaproxy.core.paths import PathTemplate, TemplateError

__all__ = [
    "TemplateValidator",
    "topic_problem",
    "validate_condition_path",
    "validate_field_map",
    "validate_field_name",
    "validate_method",
    "validate_name",
    "validate_pattern",
    "validate_string_list",
    "validate_topic_name",
]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"})
_TOPIC_RULE: Final = _("A topic name has 1 to 249 letters, digits, '.', '_' and '-', and is not '.' or '..'.")


@deconstructible
class TemplateValidator:
    """Check a template for the place (a :class:`TemplatePlace` name) where it stands."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __call__(self, value: str) -> None:
        """Raise ``ValidationError`` for a malformed template or an expression that cannot stand here."""
        try:
            template = Template.parse(mask_env(value), TemplatePlace[self.place])
        except TemplateError as error:
            raise ValidationError(str(error), code="template") from error
        if problem := topic_problem(template, TemplatePlace[self.place]):
            raise ValidationError(problem, code="topic")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TemplateValidator) and self.place == other.place

    def __hash__(self) -> int:
        return hash(self.place)


def topic_problem(template: Template, place: TemplatePlace) -> str:
    """Return why a template that names a topic can become the name of none; empty: it can, or it names no topic."""
    if place not in (TemplatePlace.TOPIC, TemplatePlace.REPLY_TO) or may_name_topic(template):
        return ""
    wrong = unusable_in_topic("".join(part for part in template.parts if isinstance(part, str)))
    if not wrong:
        return str(_TOPIC_RULE)
    return str(_("A topic has letters, digits, '.', '_' and '-' in its name, and no “%(wrong)s”.") % {"wrong": wrong})


def validate_name(value: str) -> None:
    """Names as Zilla has them: a letter, then letters, digits, '.', '_' and '-'."""
    if not is_name(value):
        raise ValidationError(_("Use a letter, then letters, digits, '.', '_' or '-'."), code="name")


def validate_condition_path(value: str) -> None:
    """A path template that starts with '/'."""
    if value and not value.startswith("/"):
        raise ValidationError(_("A path starts with '/'."), code="path")
    if "?" in value or "#" in value:
        raise ValidationError(_("A path has no query and no fragment: leave out '?' and '#'."), code="path")
    validate_pattern(value)


def validate_pattern(value: str) -> None:
    """A pattern of a condition: literals, ``*`` and ``{name}``."""
    try:
        PathTemplate.parse(mask_env(value))
    except TemplateError as error:
        raise ValidationError(str(error), code="template") from error


def validate_method(value: str) -> None:
    """An HTTP method token, or ``*``."""
    if value and value != "*" and not is_method(value):
        raise ValidationError(
            _("Write one method, such as GET, or * for any; a condition for each where there are several."), code="method"
        )
    if value.upper() in _METHODS and value not in _METHODS:
        raise ValidationError(_("Methods are case-sensitive: write %(name)s."), code="method", params={"name": value.upper()})


def validate_topic_name(value: str) -> None:
    """A literal topic name as Kafka allows it."""
    if not is_topic_name(mask_env(value)):
        raise ValidationError(_TOPIC_RULE, code="topic")


def validate_field_name(value: str) -> None:
    """A field (header) name: an RFC 9110 token, colons allowed."""
    if not is_header_name(value):
        raise ValidationError(_("%(name)r is not a valid field name."), code="field", params={"name": value})


def validate_field_map(value: Any) -> None:
    """A mapping of field name to text."""
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValidationError(_("Write one 'name: value' a line."), code="fields")
    for name in value:
        validate_field_name(name)


def validate_string_list(value: Any) -> None:
    """A list of texts, or None."""
    if value is not None and not (isinstance(value, list) and all(isinstance(item, str) and item for item in value)):
        raise ValidationError(_("Write one value a line."), code="list")
