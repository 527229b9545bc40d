"""Parts of a configuration that no file has written: trees whose lines are those of what they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kafkaproxy.specs.places import Line
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row

__all__ = ["located", "mapping", "row", "text"]


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
