"""What an import has to say: refused, warned, ignored. (What is imported is the plan.) Never silence, never a database.

Every finding names the file and the line, and what can be done about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from kafkaproxy.specs.places import Place

__all__ = ["Finding", "Report", "Verdict"]


class Verdict(StrEnum):
    """How serious a finding is."""

    REFUSED = "refused"
    """Dropping it would change what a client sees or which clients get in. Nothing of the import is applied."""
    WARNING = "warning"
    """It is imported, and behaves differently from what one might expect."""
    IGNORED = "ignored"
    """It cannot change what a client sees."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, and the way out."""

    verdict: Verdict
    place: Place
    message: str
    advice: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.place}:", self.message, self.advice) if part)


@dataclass(slots=True)
class Report:
    """The findings of one import, each said once."""

    findings: list[Finding] = field(default_factory=list)
    variables: dict[str, Place] = field(default_factory=dict)
    """The environment variables that what is imported refers to, and where first."""
    _said: set[Finding] = field(default_factory=set, repr=False)

    def refuse(self, place: Place, message: str, advice: str = "") -> None:
        """Add an error."""
        self._add(Finding(Verdict.REFUSED, place, message, advice))

    def warn(self, place: Place, message: str, advice: str = "") -> None:
        """Add a warning."""
        self._add(Finding(Verdict.WARNING, place, message, advice))

    def ignore(self, place: Place, message: str, advice: str = "") -> None:
        """Say that something is left out."""
        self._add(Finding(Verdict.IGNORED, place, message, advice))

    def _add(self, finding: Finding) -> None:
        if finding not in self._said:  # a binding that two servers lead to is looked at twice
            self._said.add(finding)
            self.findings.append(finding)

    def of(self, verdict: Verdict) -> list[Finding]:
        """Return the findings of one kind, by file and line."""
        return sorted((each for each in self.findings if each.verdict is verdict), key=lambda each: each.place)

    def is_refused(self) -> bool:
        """Whether anything was refused."""
        return any(finding.verdict is Verdict.REFUSED for finding in self.findings)

    def lines(self) -> Iterator[str]:
        """Write the findings out, the serious ones last, where a terminal ends."""
        for verdict in (Verdict.IGNORED, Verdict.WARNING, Verdict.REFUSED):
            for finding in self.of(verdict):
                yield f"{verdict}  {finding}"
