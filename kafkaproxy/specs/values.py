"""Values of specs as the columns of models hold them, and JSON: lists and dicts instead of tuples and dataclasses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

__all__ = ["PROVENANCE", "column_names", "plain"]

PROVENANCE: Final = frozenset({"place", "places"})
"""Fields that say where a spec was written, and are no part of what it says."""
_RELATED: Final = frozenset(
    {"access_control", "async_fields", "cluster", "conditions", "entries", "filters", "guard", "guarded", "overrides", "routes"}
)
"""Fields that are no column of the model: rows of other models, and names of other objects."""


def column_names(spec: type[Any]) -> tuple[str, ...]:
    """Return the fields of a kind of spec that are columns of its model, under the same name."""
    names: Iterable[str] = getattr(spec, "_fields", None) or (each.name for each in fields(spec))
    return tuple(name for name in names if name not in _RELATED | PROVENANCE)


def plain(value: Any) -> Any:
    """Return a value of a spec, or a whole spec without its provenance, as JSON has it."""
    if hasattr(value, "_asdict"):
        return value._asdict()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value) if each.name not in PROVENANCE}
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return value
