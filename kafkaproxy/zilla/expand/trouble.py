"""What stops the expansion of one thing, while the others are looked at all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafkaproxy.specs.places import Place
from kafkaproxy.zilla.report import Report

__all__ = ["Trouble", "reported"]


class Trouble(ValueError):
    """Something that cannot be expanded: where it stands, what it is, and the way out."""

    def __init__(self, place: Place, message: str, advice: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message
        self.advice = advice


@contextmanager
def reported(report: Report) -> Iterator[None]:
    """Refuse, in the report, what stops the block."""
    try:
        yield
    except Trouble as trouble:
        report.refuse(trouble.place, trouble.message, trouble.advice)
