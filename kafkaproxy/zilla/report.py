"""What an import or an export reports: each finding says where, what is wrong, and what can be done about it.

What is imported or exported is not here: that is the plan. Nothing is left out without a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, TypeVar

from kafkaproxy.specs.types import FilePlace

__all__ = ["ExportReport", "Finding", "ImportReport", "Verdict"]

WhereT = TypeVar("WhereT", FilePlace, str)


class Verdict(StrEnum):
    """How serious a finding is."""

    REFUSED = "refused"
    """Leaving it out would change what a client sees or which clients get in. Nothing is applied, and no file is written."""
    LOST = "lost"
    """Zilla cannot say it: an export leaves it out if the user allows that. It may serve less, to fewer clients, never more."""
    WARNING = "warning"
    """It is taken over, and behaves differently from what one might expect, or needs something else to be done."""
    IGNORED = "ignored"
    """An import leaves it out: it cannot change what a client sees."""


_BY_SERIOUSNESS: Final = (Verdict.IGNORED, Verdict.WARNING, Verdict.LOST, Verdict.REFUSED)


@dataclass(frozen=True, slots=True)
class Finding(Generic[WhereT]):
    """One thing that was found. ``where`` is a line of a file, or a row as ``route shop/all/put``."""

    verdict: Verdict
    where: WhereT
    message: str
    advice: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.where}:", self.message, self.advice) if part)


@dataclass(slots=True)
class _Report(Generic[WhereT]):
    """Findings, each reported once."""

    findings: list[Finding[WhereT]] = field(default_factory=list)
    _known: set[Finding[WhereT]] = field(default_factory=set, repr=False)

    def refuse(self, where: WhereT, message: str, advice: str = "") -> None:
        """Add an error."""
        self._add(Finding(Verdict.REFUSED, where, message, advice))

    def warn(self, where: WhereT, message: str, advice: str = "") -> None:
        """Add a warning."""
        self._add(Finding(Verdict.WARNING, where, message, advice))

    def _add(self, finding: Finding[WhereT]) -> None:
        if finding not in self._known:  # a binding that two servers lead to is looked at twice
            self._known.add(finding)
            self.findings.append(finding)

    def of(self, verdict: Verdict) -> list[Finding[WhereT]]:
        """Return the findings of one kind, in the order in which they were found."""
        return [each for each in self.findings if each.verdict is verdict]

    def is_refused(self) -> bool:
        """Return True if anything was refused."""
        return any(finding.verdict is Verdict.REFUSED for finding in self.findings)

    def lines(self) -> Iterator[str]:
        """Yield the findings as text, the serious ones last, where a terminal ends."""
        for verdict in _BY_SERIOUSNESS:
            for finding in self.of(verdict):
                yield f"{verdict}  {finding}"


@dataclass(slots=True)
class ImportReport(_Report[FilePlace]):
    """The findings of one import."""

    variables: dict[str, FilePlace] = field(default_factory=dict)
    """The environment variables that what is imported refers to, each with the first place where it stands."""

    def ignore(self, place: FilePlace, message: str, advice: str = "") -> None:
        """Report that something is left out."""
        self._add(Finding(Verdict.IGNORED, place, message, advice))

    def of(self, verdict: Verdict) -> list[Finding[FilePlace]]:
        """Return the findings of one kind, by file and line."""
        return sorted(super(ImportReport, self).of(verdict), key=lambda each: each.where)


@dataclass(slots=True)
class ExportReport(_Report[str]):
    """The findings of one export."""

    def lose(self, subject: str, message: str, advice: str = "") -> None:
        """Report that something is left out."""
        self._add(Finding(Verdict.LOST, subject, message, advice))
