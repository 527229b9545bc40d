"""Entries and routes as written, before anything is parsed, and what may be wrong with them.

The admin makes them from its forms, the importer from YAML, the compiler from rows. ``${{env.NAME}}`` may stand in any text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["ConditionText", "EntryConditionText", "EntryText", "FilterText", "Issue", "RouteText", "Severity"]


class Severity(StrEnum):
    """Whether a configuration with the issue can be served."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Something wrong, and where.

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


@dataclass(frozen=True, slots=True)
class ConditionText:
    """A condition as written; an empty method is what the capability serves, an empty path every path."""

    method: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"{self.method or '*'} {self.path or '*'}"


@dataclass(frozen=True, slots=True)
class FilterText:
    """A filter as written."""

    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteText:
    """A route as written, with its rows in order; ``guarded`` holds the roles by guard."""

    name: str
    capability: str
    topic: str
    conditions: Sequence[ConditionText] = ()
    key: str | None = None
    reply_to: str = ""
    overrides: Sequence[tuple[str, str]] = ()
    filters: Sequence[FilterText] = ()
    async_fields: Sequence[tuple[str, str]] = ()
    guarded: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryConditionText:
    """An entry's condition as written; what is empty matches anything."""

    level: int = 0
    scheme: str = ""
    authority: str = ""
    path: str = ""
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryText:
    """An entry as written; ``guarded`` holds the roles by guard."""

    name: str
    conditions: Sequence[EntryConditionText] = ()
    guarded: Mapping[str, Collection[str]] = field(default_factory=dict)
