"""Names for entries and routes, which have none in a zilla.yaml: readable, and the same at every import."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from kafkaproxy.core.env import mask_env
from kafkaproxy.specs.types import ConditionSpec, EntryConditionSpec

__all__ = ["Names", "entry_name", "route_name"]

_LONGEST: Final = 90
"""Short enough for a number behind it; a name has at most 100 characters."""
_OTHER: Final = re.compile(r"[^A-Za-z0-9_]+")


class Names:
    """The names of one parent's rows: each is given out once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, wish: str) -> str:
        """Return the name, with a number where it is taken."""
        name, number = wish, 1
        while name in self._taken:
            number += 1
            name = f"{wish}-{number}"
        self._taken.add(name)
        return name


def route_name(capability: str, conditions: Iterable[ConditionSpec], topic: str) -> str:
    """Name a route by what it first answers, or else by its topic: ``put-items-id``, ``fetch-items``."""
    first = next(iter(conditions), ConditionSpec())
    verb = _slug(first.method).lower() or capability
    return _named(verb, _slug(first.path) or _slug(topic))


def entry_name(conditions: Iterable[EntryConditionSpec], target: str) -> str:
    """Name an entry by its paths, outermost first, or else by the binding that it leads to; ``all`` tests nothing."""
    rows = list(conditions)
    if not rows:
        return "all"
    levels = sorted({row.level for row in rows})
    firsts = [next((row.path for row in rows if row.level == level and row.path), "") for level in levels]
    slugs = list(dict.fromkeys(slug for slug in (_slug(path) for path in firsts) if slug))
    return _named("-".join(slugs)) if slugs else _named(_slug(target))


def _slug(text: str) -> str:
    return _OTHER.sub("-", mask_env(text).replace("*", "-any-")).strip("-_")


def _named(*parts: str) -> str:
    name = "-".join(part for part in parts if part)[:_LONGEST].strip("-_")
    return name if name[:1].isalpha() and name[:1].isascii() else f"route-{name}".strip("-")
