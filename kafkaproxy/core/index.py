"""An index of path templates. The cost of a look-up does not grow with their number.

Paths are indexed in a trie of segments. Templates that the trie cannot separate by literal segments (``*``, segments that mix
text and parameters) are put into buckets by literal prefix and suffix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Generic, TypeVar

from kafkaproxy.core.paths import Glob, Param, PathTemplate

__all__ = ["PathIndex"]

ValueT = TypeVar("ValueT")


@dataclass(slots=True)
class _Node(Generic[ValueT]):
    literals: dict[str, _Node[ValueT]] = field(default_factory=dict)
    param: _Node[ValueT] | None = None
    """A segment that is one ``{name}``."""
    mixed: dict[tuple[int, int], dict[tuple[str, str], list[tuple[PathTemplate, _Node[ValueT]]]]] = field(default_factory=dict)
    """Segments that mix literals and parameters, by the lengths and then the text of literal prefix and suffix."""
    tails: dict[tuple[int, int], dict[tuple[str, str], list[ValueT]]] = field(default_factory=dict)
    """Templates with ``*`` from here on, by the lengths and then the text of literal prefix and suffix."""
    values: list[ValueT] = field(default_factory=list)


class PathIndex(Generic[ValueT]):
    """Finds the values whose path template may match a path.

    The candidates include every match. For templates with ``*`` they may include others, so the caller matches each template
    itself, which also returns the parameters.
    """

    def __init__(self, items: Iterable[tuple[PathTemplate | None, ValueT]]) -> None:
        self._root: _Node[ValueT] = _Node()
        for template, value in items:
            self._add(template or PathTemplate.parse("*"), value)

    def find(self, path: str) -> list[ValueT]:
        """Return the candidates for a raw path, in no particular order."""
        found: list[ValueT] = []
        segments = path.split("/")
        pending: list[tuple[_Node[ValueT], int, int]] = [(self._root, 0, 0)]
        while pending:
            node, index, start = pending.pop()
            if node.tails:
                found.extend(_matching_tails(node, path[start:]))
            if index == len(segments):
                found.extend(node.values)
                continue
            segment = segments[index]
            after = (index + 1, start + len(segment) + 1)
            child = node.literals.get(segment)
            if child is not None:
                pending.append((child, *after))
            if segment and node.param is not None:
                pending.append((node.param, *after))
            if node.mixed:
                pending.extend((each, *after) for each in _mixed(node, segment))
        return found

    def _add(self, template: PathTemplate, value: ValueT) -> None:
        node = self._root
        segments = _split(template)
        for index, segment in enumerate(segments):
            if any(isinstance(part, Glob) for part in segment):
                _add_tail(node, segments[index:], value)
                return
            node = _child(node, segment)
        node.values.append(value)


def _split(template: PathTemplate) -> list[list[str | Param | Glob]]:
    """Split the parts at "/": one list of parts a segment."""
    segments: list[list[str | Param | Glob]] = [[]]
    for part in template.parts:
        if not isinstance(part, str):
            segments[-1].append(part)
            continue
        first, *others = part.split("/")
        if first:
            segments[-1].append(first)
        segments.extend([text] if text else [] for text in others)
    return segments


def _child(node: _Node[ValueT], segment: list[str | Param | Glob]) -> _Node[ValueT]:
    if not segment or (len(segment) == 1 and isinstance(segment[0], str)):
        return node.literals.setdefault("".join(map(str, segment)), _Node())
    if len(segment) == 1:
        node.param = node.param or _Node()
        return node.param
    template = PathTemplate("", tuple(segment))
    prefix, suffix = _literal_run(segment), _literal_run(segment[::-1], backwards=True)
    bucket = node.mixed.setdefault((len(prefix), len(suffix)), {}).setdefault((prefix, suffix), [])
    for known, child in bucket:
        if known.parts == template.parts:
            return child
    child = _Node[ValueT]()
    bucket.append((template, child))
    return child


def _mixed(node: _Node[ValueT], segment: str) -> Iterator[_Node[ValueT]]:
    for (before, after), buckets in node.mixed.items():
        for template, child in buckets.get((segment[:before], segment[len(segment) - after :] if after else ""), ()):
            if template.match(segment) is not None:
                yield child


def _add_tail(node: _Node[ValueT], segments: list[list[str | Param | Glob]], value: ValueT) -> None:
    parts: list[str | Param | Glob] = []
    for index, segment in enumerate(segments):
        parts += ["/"] if index else []
        parts += segment
    prefix, suffix = _literal_run(parts), _literal_run(parts[::-1], backwards=True)
    node.tails.setdefault((len(prefix), len(suffix)), defaultdict(list)).setdefault((prefix, suffix), []).append(value)


def _literal_run(parts: list[str | Param | Glob], *, backwards: bool = False) -> str:
    run = [str(part) for part in takewhile(lambda part: isinstance(part, str), parts)]
    return "".join(run[::-1] if backwards else run)


def _matching_tails(node: _Node[ValueT], rest: str) -> Iterator[ValueT]:
    for (before, after), bucket in node.tails.items():
        if len(rest) >= before + after:
            values = bucket.get((rest[:before], rest[len(rest) - after :] if after else ""))
            if values:
                yield from values
