"""Where in a file something was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["NOWHERE", "FilePlace", "Line"]


class Line(int):
    """A line that knows its file: that of a specification, whose parts stand between those of the zilla.yaml."""

    file: str

    def __new__(cls, file: str, number: int) -> Line:
        """Return the line ``number`` of ``file``."""
        line = super().__new__(cls, number)
        line.file = file
        return line


@dataclass(frozen=True, slots=True, order=True)
class FilePlace:
    """A line of a file; line 0 is the file as a whole. A :class:`Line` replaces ``file`` by its own."""

    file: str
    line: int

    def __post_init__(self) -> None:
        """Take the file from the line."""
        if isinstance(self.line, Line):
            object.__setattr__(self, "file", self.line.file)
            object.__setattr__(self, "line", int(self.line))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


NOWHERE: Final = FilePlace("", 0)
"""The place of what was read from rows."""
