"""The ``prefer`` field (RFC 7240): lists in any order, case-insensitive names, quoted values, first mention wins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Preferences", "parse_prefer"]

_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
# The reference separates preferences by ";", RFC 7240 by ","; both are read. A parameter of a preference looks the same as
# the reference's next preference, so names are looked at wherever they stand.
_PREFERENCE: Final = re.compile(rf"({_WORD})\s*(?:=\s*({_WORD}|{_QUOTED}|))?\s*(?:[;,]\s*|$)")
_MAX_WAIT: Final = 10**9


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the client prefers; ``wait`` in seconds, None where it does not say (or says 0, or nonsense)."""

    respond_async: bool = False
    wait: int | None = None


NOTHING: Final = Preferences()


def parse_prefer(values: Iterable[str]) -> Preferences:
    """Parse all lines of the field; what is malformed or unknown is passed over (RFC 7240 section 2)."""
    seen: dict[str, str] = {}
    for value in values:
        for name, given in _PREFERENCE.findall(value):
            seen.setdefault(name.lower(), given)
    if not seen:
        return NOTHING
    return Preferences(respond_async="respond-async" in seen, wait=_seconds(seen.get("wait")))


def _seconds(text: str | None) -> int | None:
    digits = (text or "").strip('"')
    if not digits.isascii() or not digits.isdigit():
        return None
    # No client waits for 30 years; the bound keeps a 5,000-digit number from being an error.
    seconds = int(digits) if len(digits) < 10 else _MAX_WAIT
    return seconds or None
