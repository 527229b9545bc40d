"""The rules that no single field can check: parameters that a condition defines, guards that exist, rows of the capability.

Everything here takes specs, so the admin asks before it saves, the importer before it writes, and the compiler before it
serves. ``${{env.NAME}}`` may stand in any text; its value is not needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.utils.translation import gettext as _

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.paths import PathTemplate, TemplateError
from kafkaproxy.routing.polling import is_poll, poll_template
from kafkaproxy.specs.types import ConditionSpec, RouteSpec
from kafkaproxy.validators import topic_problem

__all__ = ["Issue", "Severity", "validate_route"]


class Severity(StrEnum):
    """How serious an issue is: a configuration with an error cannot be served."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """What is wrong, and where.

    ``field`` is a field or related name of the model (``topic``, ``overrides``, ``conditions`` …), ``index`` the row where that
    is a list, ``part`` the field of the row. A malformed template has the code ``template``: the field's own validator says so
    too.
    """

    field: str
    message: str
    code: str
    severity: Severity = Severity.ERROR
    index: int | None = None
    part: str = ""
    subject: str = ""
    """The name of the route or entry."""
    where: str = ""
    """The row that has it, as ``gateway / entry / route``; empty while the caller knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """A template and where it stands."""

    field: str
    text: str
    place: TemplatePlace
    index: int | None = None
    part: str = ""

    @property
    def polled(self) -> bool:
        """True if a status poll renders it. A poll produces no record: it only looks for the reply."""
        return self.place in (TemplatePlace.REPLY_TO, TemplatePlace.ASYNC)

    def issue(self, message: str, code: str, severity: Severity = Severity.ERROR) -> Issue:
        return Issue(field=self.field, index=self.index, part=self.part, message=message, code=code, severity=severity)


_Parsed = Sequence[tuple[_Use, Template]]
_Conditions = Sequence[tuple[ConditionSpec, PathTemplate]]

_CAPABILITIES_OF: Final = {"overrides": {"produce"}, "async_fields": {"produce"}, "filters": {"fetch", "stream"}}


def validate_route(route: RouteSpec, *, guards: Collection[str] | None = None) -> list[Issue]:
    """Return what is wrong with one route by itself. ``guards`` are the names that exist; None leaves them unchecked."""
    malformed: list[Issue] = []
    templates = list(_parse_templates(route, malformed))
    conditions = list(_parse_conditions(route, malformed))
    return [
        *malformed,
        *_misplaced_rows(route),
        *_unknown_params(templates, conditions),
        *([] if malformed else _unanswerable(route)),
        *_unknown_guards(route, templates, guards),
    ]


def _uses(route: RouteSpec) -> Iterator[_Use]:
    yield _Use(field="topic", text=route.topic, place=TemplatePlace.TOPIC)
    if route.key is not None:
        yield _Use(field="key", text=route.key, place=TemplatePlace.KEY)
    if route.reply_to:
        yield _Use(field="reply_to", text=route.reply_to, place=TemplatePlace.REPLY_TO)
    for index, (_name, value) in enumerate(route.overrides):
        yield _Use(field="overrides", text=value, place=TemplatePlace.OVERRIDE, index=index, part="value")
    for index, (_name, value) in enumerate(route.async_fields):
        yield _Use(field="async_fields", text=value, place=TemplatePlace.ASYNC, index=index, part="value")
    for index, each in enumerate(route.filters):
        if each.key is not None:
            yield _Use(field="filters", text=each.key, place=TemplatePlace.FILTER, index=index, part="key")
        for value in each.headers.values():
            yield _Use(field="filters", text=value, place=TemplatePlace.FILTER, index=index, part="headers")


def _parse_templates(route: RouteSpec, malformed: list[Issue]) -> Iterator[tuple[_Use, Template]]:
    for use in _uses(route):
        try:
            template = Template.parse(mask_env(use.text), use.place)
        except TemplateError as error:
            malformed.append(use.issue(str(error), "template"))
            continue
        if problem := topic_problem(template, use.place):
            malformed.append(use.issue(problem, "template"))
        else:
            yield use, template


def _parse_conditions(route: RouteSpec, malformed: list[Issue]) -> Iterator[tuple[ConditionSpec, PathTemplate]]:
    for index, condition in enumerate(route.conditions):
        try:
            yield condition, PathTemplate.parse(mask_env(condition.path))
        except TemplateError as error:
            malformed.append(Issue(field="conditions", index=index, part="path", message=str(error), code="template"))


def _misplaced_rows(route: RouteSpec) -> Iterator[Issue]:
    """Refuse rows that the capability never reads, instead of ignoring them silently."""
    for name, capabilities in _CAPABILITIES_OF.items():
        if getattr(route, name) and route.capability not in capabilities:
            message = _("A %(capability)s route has none of these: remove them, or change the capability.")
            yield Issue(field=name, message=message % {"capability": route.capability}, code="capability")
    if route.async_fields and not route.reply_to:
        message = _("An asynchronous answer needs the topic of the replies: give reply-to, or remove these.")
        yield Issue(field="async_fields", message=message, code="async")


def _unknown_params(templates: _Parsed, conditions: _Conditions) -> Iterator[Issue]:
    """Refuse parameters that a condition does not define although the route renders them when it matches."""
    for use, template in templates:
        for name in sorted(template.param_names):
            if not conditions:
                message = _("${params.%(name)s} is unknown: the route has no condition whose path has {%(name)s}.")
                yield use.issue(message % {"name": name}, "param")
            elif lacking := _first_without(name, use, conditions):
                message = _("${params.%(name)s} is unknown: the path of “%(condition)s” has no {%(name)s}.")
                yield use.issue(message % {"name": name, "condition": lacking}, "param")


def _first_without(name: str, use: _Use, conditions: _Conditions) -> ConditionSpec | None:
    """Return the first condition that does not define a parameter which is rendered when it matches."""
    for condition, path in conditions:
        if name not in path.names and (use.polled or not is_poll(condition.method, path)):
            return condition
    return None


def _unanswerable(route: RouteSpec) -> Iterator[Issue]:
    """Warn of a 202 that no status poll can follow."""
    if route.async_fields and poll_template(route) is None:
        message = _(
            "The outcome cannot be asked for: write a location with a path that holds ${correlationId} and each "
            "parameter of reply-to and of these fields, such as /items/${params.id};cid=${correlationId}."
        )
        yield Issue(field="async_fields", message=message, code="poll", severity=Severity.WARNING)


def _unknown_guards(route: RouteSpec, templates: _Parsed, guards: Collection[str] | None) -> Iterator[Issue]:
    if guards is None:
        return
    for use, template in templates:
        for name in sorted(template.guard_names.difference(guards)):
            yield use.issue(_guard_message(name), "guard")
    for index, name in enumerate(route.guarded):
        if name not in guards:
            yield Issue(field="guarded", index=index, part="guard", message=_guard_message(name), code="guard")


def _guard_message(name: str) -> str:
    return _("There is no guard “%(name)s”: make it, or name one that exists.") % {"name": name}
