"""Compares path templates: does one match everything that another one matches, so that a rule behind it is never reached?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.paths import Glob, Param, PathTemplate

__all__ = ["CoverIndex", "are_disjoint", "covers", "may_overlap"]

T = TypeVar("T")

_EVERYTHING = (Glob(),)


def covers(wide: PathTemplate | None, narrow: PathTemplate | None) -> bool:
    """Return True if every path that ``narrow`` matches is matched by ``wide``; None matches every path.

    True is always right. False may be wrong if only several alternatives together cover ``narrow``, as with ``*a*`` and
    ``{x}*``; then there is no warning.
    """
    pattern = _tokens(wide)
    states = _skip_globs(pattern, {0})
    for seen in _tokens(narrow):
        states = _skip_globs(pattern, {target for state in states for target in _step(pattern, state, seen)})
        if not states:
            return False
    return len(pattern) in states


def are_disjoint(one: PathTemplate | None, other: PathTemplate | None) -> bool:
    """Return True if no path matches both.

    True is always right; of two patterns only the literals at their ends are compared.
    """
    for literal, pattern in ((one, other), (other, one)):
        if literal is not None and literal.is_literal:
            return pattern is not None and pattern.match("".join(map(str, literal.parts))) is None
    (prefix, suffix), (other_prefix, other_suffix) = _ends(one), _ends(other)
    begin, end = min(len(prefix), len(other_prefix)), min(len(suffix), len(other_suffix))
    return prefix[:begin] != other_prefix[:begin] or suffix[len(suffix) - end :] != other_suffix[len(other_suffix) - end :]


def may_overlap(first: str, second: str) -> bool:
    """Return True if some path may match both patterns, given as text; an empty one matches every path.

    False is always right.
    """
    one, other = (PathTemplate.parse(mask_env(text)) if text else None for text in (first, second))
    return not are_disjoint(one, other)


Token = str | Param | Glob


def _tokens(template: PathTemplate | None) -> list[Token]:
    """Return the parts, with literals split into characters."""
    parts = _EVERYTHING if template is None else template.parts
    return [token for part in parts for token in (part if isinstance(part, str) else (part,))]


def _skip_globs(pattern: list[Token], states: set[int]) -> set[int]:
    """Add the states after globs, which may match nothing."""
    for first in sorted(states):
        behind = first
        while behind < len(pattern) and isinstance(pattern[behind], Glob):
            behind += 1
            states.add(behind)
    return states


def _step(pattern: list[Token], state: int, seen: Token) -> tuple[int, ...]:
    """Return the states after ``seen``, a character or a placeholder that stands for many."""
    if state == len(pattern):
        return ()
    match pattern[state]:
        case Glob():
            return (state,)
        case Param():
            within_a_segment = not isinstance(seen, Glob) and seen != "/"
            return (state, state + 1) if within_a_segment else ()
        case character:
            return (state + 1,) if seen == character else ()


class CoverIndex(Generic[T]):
    """Finds the templates that may cover another one by the literals at both ends, so that thousands can be compared."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, list[T]]] = {}

    def add(self, template: PathTemplate | None, item: T) -> None:
        """Add ``item`` under its template."""
        prefix, suffix = _ends(template)
        self._items.setdefault(prefix, {}).setdefault(suffix, []).append(item)

    def find(self, template: PathTemplate | None) -> Iterator[T]:
        """Yield the items whose templates begin and end no more narrowly; the caller compares them with :func:`covers`."""
        prefix, suffix = _ends(template)
        for length in range(len(prefix) + 1):
            by_suffix = self._items.get(prefix[:length])
            if by_suffix:
                for start in range(len(suffix) + 1):
                    yield from by_suffix.get(suffix[start:], ())


def _ends(template: PathTemplate | None) -> tuple[str, str]:
    parts = _EVERYTHING if template is None else template.parts or ("",)
    prefix, suffix = (part if isinstance(part, str) else "" for part in (parts[0], parts[-1]))
    return prefix, suffix
