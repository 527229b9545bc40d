"""The ``prefer`` field (RFC 7240): lists in any order, case-insensitive names, quoted values, first mention wins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Preferences", "parse_prefer"]

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_QUOTED: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
# The reference separates preferences by ";", RFC 7240 by ","; both are read. A parameter of a preference looks the same as
# the reference's next preference, so names are looked at wherever they stand. Possessive throughout: a field line is as long as
# the server lets it be, and backtracking over it would hold up every other request.
_MEMBER: Final = re.compile(r'(?:[^";,]++|"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z))++', re.DOTALL)
_MAX_WAIT: Final = 10**9


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the client prefers; ``wait`` in seconds, None where it does not say (or says 0, or nonsense)."""

    respond_async: bool = False
    wait: int | None = None


NO_PREFERENCES: Final = Preferences()


def parse_prefer(values: Iterable[str]) -> Preferences:
    """Parse all lines of the field; what is malformed or unknown is passed over (RFC 7240 section 2)."""
    seen: dict[str, str] = {}
    for value in values:
        for member in _MEMBER.findall(value):
            name, _, given = (part.strip(" \t") for part in member.partition("="))
            quoted = _QUOTED.fullmatch(given)
            if _TOKEN.fullmatch(name) and (quoted or not given or _TOKEN.fullmatch(given)):
                seen.setdefault(name.lower(), quoted[1] if quoted else given)
    if not seen:
        return NO_PREFERENCES
    return Preferences(respond_async="respond-async" in seen, wait=_seconds(seen.get("wait")))


def _seconds(text: str | None) -> int | None:
    digits = text or ""
    if not digits.isascii() or not digits.isdigit():
        return None
    # No client waits for 30 years; the bound keeps a 5,000-digit number from being an error.
    seconds = int(digits) if len(digits) < 10 else _MAX_WAIT
    return seconds or None
