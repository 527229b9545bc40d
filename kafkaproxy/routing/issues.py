"""An issue of a route or an entry, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Issue", "Severity"]


class Severity(StrEnum):
    """Whether a configuration with the issue can be served."""

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
