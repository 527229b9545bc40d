"""The paths of status polls: the path template that matches the ``location`` of a 202."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from kafkaproxy.core.covering import covers
from kafkaproxy.core.env import mask_env
from kafkaproxy.core.expressions import CorrelationId, Expression, Parameter, Template, TemplatePlace
from kafkaproxy.core.paths import Param, PathTemplate, quote_literal
from kafkaproxy.specs.types import ConditionSpec, RouteSpec

__all__ = ["CORRELATION_ID", "is_poll", "location_template", "poll_template"]

CORRELATION_ID: Final = "correlationId"
"""The parameter of a poll's path that holds the correlation id."""

_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")


def is_poll(method: str, path: PathTemplate) -> bool:
    """Return True if a condition is for status polls: ``GET /items/{id};cid={correlationId}``."""
    return method == "GET" and CORRELATION_ID in path.names


def poll_template(route: RouteSpec) -> PathTemplate | None:
    """Return the path of a route's status polls, with ``{correlationId}``; None if there can be none.

    That is the path of the location, unless conditions of the route name another one (a front proxy may rewrite paths). It
    defines every parameter of reply-to and of the async fields: a poll renders these, and nothing else of the route.
    Raise ``TemplateError`` for a malformed text.
    """
    fields = [(name, Template.parse(mask_env(value), TemplatePlace.ASYNC)) for name, value in route.async_fields]
    needed = Template.parse(mask_env(route.reply_to), TemplatePlace.REPLY_TO).param_names
    needed = needed.union(*(value.param_names for _, value in fields))
    location = location_template(fields)
    named = list(_named_polls(route.conditions)) if fields else []
    if location is not None and named and not any(covers(each, location) for each in named):
        location = None
    return next((each for each in (location, *named) if each is not None and needed <= set(each.names)), None)


def location_template(async_fields: Sequence[tuple[str, Template]]) -> PathTemplate | None:
    """Return the location as a path template: ``${params.x}`` becomes ``{x}``, ``${correlationId}`` ``{correlationId}``.

    The location counts, or else the first field with a correlation id; of an absolute URL, its path. None where the field
    cannot be asked for by its path: a relative one, a correlation id in the query, a parameter that stands twice.
    """
    carriers = [pair for pair in async_fields if CorrelationId() in pair[1].parts]
    carriers.sort(key=lambda pair: pair[0].lower() != "location")
    return _path_template(carriers[0][1]) if carriers else None


def _named_polls(conditions: Sequence[ConditionSpec]) -> Iterator[PathTemplate]:
    for condition in conditions:
        path = PathTemplate.parse(mask_env(condition.path))
        if is_poll(condition.method, path):
            yield path


def _path_template(location: Template) -> PathTemplate | None:
    parts = [_path_part(part) for part in _without_origin(location.parts)]
    names = [part.name for part in parts if isinstance(part, Param)]
    literals = [part for part in parts if isinstance(part, str)]
    rooted = bool(literals) and parts[0] is literals[0] and literals[0].startswith("/")
    if not rooted or len(set(names)) != len(names) or any("?" in text or "#" in text for text in literals):
        return None
    text = "".join(part if isinstance(part, str) else f"{{{part.name}}}" for part in parts)
    return PathTemplate(text, tuple(part if isinstance(part, Param) else quote_literal(part) for part in parts))


def _path_part(part: str | Expression) -> str | Param:
    match part:
        case str():
            return part
        case Parameter(name):
            return Param(name)
        case _:  # an async field holds nothing else (TemplatePlace.ASYNC)
            return Param(CORRELATION_ID)


def _without_origin(parts: Sequence[str | Expression]) -> Sequence[str | Expression]:
    """Leave out the scheme and authority of an absolute URL."""
    first = parts[0]
    if not isinstance(first, str) or not (origin := _ORIGIN.match(first)):
        return parts
    rest = first[origin.end() :]
    return [rest, *parts[1:]] if rest else parts[1:]
