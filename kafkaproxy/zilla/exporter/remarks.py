"""What an export has to say: what a zilla.yaml cannot hold, and what to do about it. Never silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Remark", "Remarks", "Severity"]


class Severity(StrEnum):
    """How serious a remark is."""

    WARNING = "warning"
    """The file is right, and something is still to be done or known."""
    LOST = "lost"
    """Zilla has no such thing: it is left out, which may serve less to fewer people and never more. Needs an explicit word."""
    REFUSED = "refused"
    """Leaving it out would serve other requests, or let other people in. No file is written."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was found, and the way out. ``subject`` says which row: ``route shop/all/put``."""

    severity: Severity
    subject: str
    message: str
    advice: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.subject}:", self.message, self.advice) if part)


@dataclass(slots=True)
class Remarks:
    """The remarks of one export, each said once."""

    found: list[Remark] = field(default_factory=list)

    def warn(self, subject: str, message: str, advice: str = "") -> None:
        """Add what one should know."""
        self._add(Remark(Severity.WARNING, subject, message, advice))

    def lose(self, subject: str, message: str, advice: str = "") -> None:
        """Say that something is left out."""
        self._add(Remark(Severity.LOST, subject, message, advice))

    def refuse(self, subject: str, message: str, advice: str = "") -> None:
        """Add an error."""
        self._add(Remark(Severity.REFUSED, subject, message, advice))

    def of(self, severity: Severity) -> list[Remark]:
        """Return the remarks of one kind, in the order of the gateway."""
        return [each for each in self.found if each.severity is severity]

    def lines(self) -> Iterator[str]:
        """Write the remarks out, the serious ones last, where a terminal ends."""
        for severity in Severity:
            for each in self.of(severity):
                yield f"{severity}  {each}"

    def _add(self, remark: Remark) -> None:
        if remark not in self.found:
            self.found.append(remark)
