"""Where the outcome of an asynchronous request is asked for: the ``location`` of its 202, read backwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from kafkaproxy.core.expressions import CorrelationId, Expression, Parameter, Template
from kafkaproxy.core.paths import Param, PathTemplate, quote_literal

__all__ = ["CORRELATION_ID", "poll_template"]

CORRELATION_ID: Final = "correlationId"
"""The parameter of a poll's path that holds the correlation id."""

_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")


def poll_template(async_fields: Sequence[tuple[str, Template]]) -> PathTemplate | None:
    """Return the location as a path template: ``${params.x}`` becomes ``{x}``, ``${correlationId}`` ``{correlationId}``.

    The location counts, or else the first field with a correlation id; of an absolute URL, its path. None where the field
    cannot be asked for by its path: a relative one, a correlation id in the query, a parameter that stands twice.
    """
    carriers = [pair for pair in async_fields if CorrelationId() in pair[1].parts]
    carriers.sort(key=lambda pair: pair[0].lower() != "location")
    return _path_template(carriers[0][1]) if carriers else None


def _path_template(location: Template) -> PathTemplate | None:
    parts = tuple(_path_part(part) for part in _without_origin(location.parts))
    names = [part.name for part in parts if isinstance(part, Param)]
    literals = [part for part in parts if isinstance(part, str)]
    rooted = bool(literals) and parts[0] == literals[0] and literals[0].startswith("/")
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
        case _:  # an async field holds nothing else (Place.ASYNC)
            return Param(CORRELATION_ID)


def _without_origin(parts: Sequence[str | Expression]) -> Sequence[str | Expression]:
    """Leave out the scheme and authority of an absolute URL."""
    first = parts[0]
    if not isinstance(first, str) or not (origin := _ORIGIN.match(first)):
        return parts
    rest = first[origin.end() :]
    return [rest, *parts[1:]] if rest else parts[1:]
