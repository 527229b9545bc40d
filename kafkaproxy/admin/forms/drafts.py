"""Specs of routes and entries as stored, or as they stand in a form that may not be valid yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Final

from django.core.exceptions import ValidationError

from kafkaproxy.models import Entry, Route
from kafkaproxy.specs import from_rows
from kafkaproxy.specs.types import EntrySpec, RouteSpec
from kafkaproxy.validators import validate_field_map, validate_string_list

__all__ = ["ENTRY_PREFETCH", "ENTRY_ROWS", "ROUTE_PREFETCH", "ROUTE_ROWS", "Rows", "draft_entry", "draft_route"]

Rows = Mapping[str, Sequence[Any]]
"""The rows of one parent by related name, in order."""

ROUTE_ROWS: Final = (*from_rows.ROUTE_ROWS, "guarded")
ENTRY_ROWS: Final = (*from_rows.ENTRY_ROWS, "guarded")
ROUTE_PREFETCH: Final = (*from_rows.ROUTE_ROWS, "guarded__guard", "cluster")
"""What to prefetch where there are many routes."""
ENTRY_PREFETCH: Final = (*from_rows.ENTRY_ROWS, "guarded__guard")
"""What to prefetch where there are many entries."""


def draft_route(route: Route, rows: Rows | None = None) -> RouteSpec:
    """Return the spec of a route. ``rows`` are those of the form; None takes those of the database."""
    rows = _readable(route, ROUTE_ROWS, rows)
    return from_rows.route_spec(route, rows, _guarded(rows), None if route.cluster is None else route.cluster.name)


def draft_entry(entry: Entry, rows: Rows | None = None) -> EntrySpec:
    """Return the spec of an entry, without its routes. ``rows`` are those of the form; None takes those of the database."""
    rows = _readable(entry, ENTRY_ROWS, rows)
    return from_rows.entry_spec(entry, rows, _guarded(rows))


def _readable(parent: Route | Entry, names: Sequence[str], rows: Rows | None) -> Rows:
    found = {name: getattr(parent, name).all() for name in names} if rows is None else rows
    return {name: [_mended(row) for row in each] for name, each in found.items()}


def _mended(row: Any) -> Any:
    """Empty values that no form would have saved (a fixture may have), so that the page can show and correct the row."""
    for name, check, empty in (("headers", validate_field_map, {}), ("roles", validate_string_list, [])):
        try:
            check(getattr(row, name, empty))
        except ValidationError:
            row = copy(row)
            setattr(row, name, empty)
    return row


def _guarded(rows: Rows) -> dict[str, tuple[str, ...]]:
    """Return the roles by guard; a row of a form in which no guard is chosen yet says nothing."""
    return {row.guard.name: tuple(row.roles or ()) for row in rows.get("guarded", ()) if row.guard_id is not None}
