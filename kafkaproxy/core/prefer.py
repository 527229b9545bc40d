"""The ``prefer`` field (RFC 7240): lists in any order, case-insensitive names, quoted values, first mention wins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Preferences", "parse_prefer"]

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_QUOTED: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
# The reference separates preferences by ";", RFC 7240 by ","; both are accepted. A parameter of a preference looks like the
# reference's next preference, so a name counts wherever it is. Possessive throughout: a field line is as long as the server
# allows, and backtracking over it would block every other request.
_MEMBER: Final = re.compile(r'(?:[^";,]++|"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z))++', re.DOTALL)
_MAX_WAIT: Final = 10**9


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the client prefers. ``wait`` is in seconds; None if it is missing, 0 or malformed."""

    respond_async: bool = False
    wait: int | None = None


NO_PREFERENCES: Final = Preferences()


def parse_prefer(values: Iterable[str]) -> Preferences:
    """Parse the lines of the field; malformed and unknown preferences are ignored (RFC 7240 section 2)."""
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
    # No client waits for 30 years; the bound keeps a number of 5,000 digits from raising an error.
    seconds = int(digits) if len(digits) < 10 else _MAX_WAIT
    return seconds or None
