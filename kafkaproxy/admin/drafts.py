"""Routes and entries, as stored or as they stand in a form, in the words of the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final

from django.core.exceptions import ValidationError

from kafkaproxy.models import Entry, Route
from kafkaproxy.routing import rows as routing_rows
from kafkaproxy.routing.texts import EntryText, RouteText
from kafkaproxy.validators import validate_field_map, validate_string_list

__all__ = ["ENTRY_ROWS", "ROUTE_ROWS", "Rows", "entry_text", "route_text", "stored_rows"]

Rows = Mapping[str, Sequence[Any]]
"""The rows of one parent by related name, in order."""

ROUTE_ROWS: Final = ("conditions", "overrides", "filters", "async_fields", "guarded")
ENTRY_ROWS: Final = ("conditions", "guarded")


def stored_rows(parent: Route | Entry) -> Rows:
    """Return the rows of the database; prefetch them where there are many parents."""
    names = ROUTE_ROWS if isinstance(parent, Route) else ENTRY_ROWS
    return {name: list(getattr(parent, name).all()) for name in names}


def route_text(route: Route, rows: Rows) -> RouteText:
    """Return the route as the rules read it."""
    return routing_rows.route_text(_only(route.pk, rows, {"guarded": "route_guards"}), route)


def entry_text(entry: Entry, rows: Rows) -> EntryText:
    """Return the entry as the rules read it."""
    names = {"conditions": "entry_conditions", "guarded": "entry_guards"}
    return routing_rows.entry_text(_only(entry.pk, rows, names), entry)


def _only(pk: int | None, rows: Rows, names: Mapping[str, str]) -> routing_rows.Rows:
    """Return the rows of one parent as if they were the whole database; ``pk`` is None for a parent that is not saved."""
    every: dict[str, Any] = {name: {} for name in routing_rows.Rows.__dataclass_fields__}
    chosen = {name: [_readable(row) for row in found if not _lacks_guard(row)] for name, found in rows.items()}
    every |= {names.get(name, name): {pk: found} for name, found in chosen.items()}
    every["guards"] = _guards(chosen.get("guarded", ()))
    return routing_rows.Rows(**every)


def _lacks_guard(row: Any) -> bool:
    return hasattr(row, "guard_id") and row.guard_id is None


def _readable(row: Any) -> Any:
    """Leave out what no form would have saved (a fixture may have): it must not keep the page from showing, and mending, it."""
    for name, check, empty in (("headers", validate_field_map, {}), ("roles", validate_string_list, [])):
        try:
            check(getattr(row, name, empty))
        except ValidationError:
            row = copy(row)
            setattr(row, name, empty)
    return row


def _guards(required: Iterable[Any]) -> dict[int, Any]:
    return {row.guard_id: row.guard for row in required}
