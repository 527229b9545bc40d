"""The YAML tree: texts, lists and maps that know the line they stand on.

Every scalar stays the text it was written as. YAML's guesses (``no`` is false, ``2011-04-29`` is a date, ``017`` is 15) have
no place in a configuration whose values are nearly all texts; a caller that wants a number or a flag converts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

from kafkaproxy.specs.types import Line

__all__ = ["Branch", "Leaf", "Node", "Row", "located", "mapping", "plain_data", "row", "text"]

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar. ``plain``: written without quotes; an empty plain scalar is null."""

    text: str
    line: int
    plain: bool = True
    literal: bool = False
    """A ``|`` block, whose lines are lines of the file."""

    @property
    def is_null(self) -> bool:
        """Return True if nothing is written here."""
        return self.plain and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence."""

    items: tuple[Node, ...]
    line: int


@dataclass(frozen=True)
class Branch:
    """A mapping, in the order of the file. Its keys are unique: the reader sees to it."""

    pairs: tuple[tuple[Leaf, Node], ...]
    line: int

    @cached_property
    def _by_name(self) -> Mapping[str, tuple[Leaf, Node]]:
        return MappingProxyType({key.text: (key, value) for key, value in self.pairs})

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Node | None:
        """Return the value of ``name``, None where it is missing or null."""
        found = self._by_name.get(name)
        if found is None or (isinstance(found[1], Leaf) and found[1].is_null):
            return None
        return found[1]

    def text(self, name: str, default: str = "") -> str:
        """Return the text of ``name``, or ``default``."""
        value = self.get(name)
        return value.text if isinstance(value, Leaf) else default

    def texts(self, name: str) -> list[Leaf]:
        """Return the texts of the list ``name``, or of the one text that stands there."""
        value = self.get(name)
        if isinstance(value, Leaf):
            return [value]
        return [item for item in value.items if isinstance(item, Leaf)] if isinstance(value, Row) else []

    def branch(self, name: str) -> Branch | None:
        """Return the mapping ``name``, or None."""
        value = self.get(name)
        return value if isinstance(value, Branch) else None

    def branches(self, name: str) -> list[Branch]:
        """Return the mappings of the list ``name``."""
        value = self.get(name)
        return [item for item in value.items if isinstance(item, Branch)] if isinstance(value, Row) else []

    def line_of(self, name: str) -> int:
        """Return the line of the key ``name``, or of the mapping."""
        found = self._by_name.get(name)
        return self.line if found is None else found[0].line

    def text_items(self) -> Iterator[tuple[Leaf, Leaf]]:
        """Return the keys whose values are texts, with them."""
        return ((key, value) for key, value in self.pairs if isinstance(value, Leaf))


Node = Leaf | Row | Branch


def plain_data(node: Node) -> object:
    """Return texts, lists and dictionaries without their lines; null is None."""
    match node:
        case Leaf():
            return None if node.is_null else node.text
        case Row():
            return [plain_data(item) for item in node.items]
        case Branch():
            return {key.text: plain_data(value) for key, value in node.pairs}


def located(node: Node, file: str, line: int = 0) -> Node:
    """Return the tree with lines that know their file. ``line``, where it is given, is the line of all of it."""
    own = Line(file, line or node.line)
    match node:
        case Leaf():
            return Leaf(node.text, own, plain=node.plain, literal=node.literal)
        case Row():
            return Row(tuple(located(item, file, line) for item in node.items), own)
        case Branch():
            pairs = ((_key(key, file, line), located(value, file, line)) for key, value in node.pairs)
            return Branch(tuple(pairs), own)


def _key(key: Leaf, file: str, line: int) -> Leaf:
    return Leaf(key.text, Line(file, line or key.line), plain=key.plain)


def text(value: str, line: int) -> Leaf:
    """Return a text that is never taken for null."""
    return Leaf(value, line, plain=False)


def row(items: Iterable[Node], line: int) -> Row:
    """Return a list."""
    return Row(tuple(items), line)


def mapping(line: int, properties: Mapping[str, Node | str | None]) -> Branch:
    """Return a mapping. A value that is a text gets the line of its node, if it has one; None leaves its property out."""
    pairs = []
    for name, value in properties.items():
        if value is not None:
            node = text(value, line) if isinstance(value, str) else value
            pairs.append((Leaf(name, node.line), node))
    return Branch(tuple(pairs), line)
