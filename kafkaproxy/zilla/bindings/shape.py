"""What a part of a configuration may look like: a closed grammar, checked before anything is interpreted.

The reference's schema is closed almost everywhere (an unknown property is an error), and so is this one: a misspelt property
would otherwise be dropped, and it may have been a guard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from django.utils.translation import gettext as _

from kafkaproxy.core.names import is_name, nearest
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row

__all__ = ["ANYTHING", "Anything", "Flag", "Items", "Misfit", "NamedItems", "Number", "OneOrMore", "Properties", "Shape"]
__all__ += ["Switch", "Text", "TextOrItems", "has_expression", "suggest"]

_EXPRESSION: Final = re.compile(r"\$\{\{.*\}\}", re.DOTALL)
_INTEGER: Final = re.compile(r"[0-9]{1,9}")
_FLAGS: Final = ("true", "false")


@dataclass(frozen=True, slots=True)
class Misfit:
    """What does not fit the grammar, and what to do about it."""

    line: int
    message: str
    advice: str


class Shape(Protocol):
    """Something that a node has to fit."""

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Return what does not fit; ``path`` says in words where the node stands."""
        ...


def has_expression(text: str) -> bool:
    """Return True if ``${{…}}`` stands in the text."""
    return _EXPRESSION.search(text) is not None


def suggest(name: str, known: Iterable[str]) -> str:
    """Return advice that names the known name nearest to ``name``, and then all of them."""
    names = sorted(known)
    close = nearest(name, names)
    hint = _("Did you mean %(name)r?") % {"name": close} + " " if close else ""
    return hint + _("Known here: %(names)s.") % {"names": ", ".join(names)} if names else _("Remove it.")


@dataclass(frozen=True, slots=True)
class Anything:
    """Anything: it is checked elsewhere, or does not matter."""

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Nothing is wrong."""
        del node, path
        yield from ()


ANYTHING: Final = Anything()


@dataclass(frozen=True, slots=True)
class Text:
    """A text; one of ``choices``, or one that matches ``pattern``, where these are given. ``fixed``: no ``${{…}}``."""

    choices: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    example: str = ""
    fixed: bool = False

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Check the text."""
        if not isinstance(node, Leaf):
            yield Misfit(node.line, _("%(path)s is not a text.") % {"path": path}, _("Write one value."))
        elif node.is_null:
            yield Misfit(node.line, _("%(path)s is empty.") % {"path": path}, _("Write a value, or remove the property."))
        elif has_expression(node.text):
            if self.choices or self.fixed:
                yield Misfit(
                    node.line, _("%(path)s cannot come from the environment.") % {"path": path}, _("Write the value itself.")
                )
        elif self.choices and node.text not in self.choices:
            yield Misfit(
                node.line,
                _("%(path)s is %(text)r.") % {"path": path, "text": node.text},
                suggest(node.text, self.choices),
            )
        elif self.pattern is not None and not self.pattern.fullmatch(node.text):
            yield Misfit(
                node.line,
                _("%(path)s is %(text)r.") % {"path": path, "text": node.text},
                _("Write it like %(example)s.") % {"example": self.example},
            )


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number that is not negative."""

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Check the number; one from the environment is not known yet."""
        if not isinstance(node, Leaf) or not (_INTEGER.fullmatch(node.text) or has_expression(node.text)):
            yield Misfit(node.line, _("%(path)s is not a whole number.") % {"path": path}, _("Write one to nine digits."))


@dataclass(frozen=True, slots=True)
class Flag:
    """``true`` or ``false``."""

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Check the flag."""
        if not isinstance(node, Leaf) or not node.plain or node.text not in _FLAGS:
            yield Misfit(node.line, _("%(path)s is neither true nor false.") % {"path": path}, _("Write true or false."))


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    item: Shape
    least: int = 0

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Check every item."""
        if not isinstance(node, Row):
            yield Misfit(node.line, _("%(path)s is not a list.") % {"path": path}, _("Begin each item with '- '."))
            return
        if len(node.items) < self.least:
            yield Misfit(
                node.line, _("%(path)s is an empty list.") % {"path": path}, _("Write an item, or remove the property.")
            )
        for index, item in enumerate(node.items):
            yield from self.item.problems(item, f"{path}[{index}]")


@dataclass(frozen=True, slots=True)
class OneOrMore:
    """One value, or a list of such values."""

    item: Shape

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Check the value or the items."""
        yield from (Items(self.item) if isinstance(node, Row) else self.item).problems(node, path)


@dataclass(frozen=True, slots=True)
class TextOrItems:
    """A text of one shape, or a list of another."""

    text: Shape
    items: Shape

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Check the text or the list."""
        yield from (self.items if isinstance(node, Row) else self.text).problems(node, path)


@dataclass(frozen=True, slots=True)
class NamedItems:
    """A mapping whose keys are names of the file's own; ``most`` limits how many."""

    value: Shape
    most: int | None = None
    free: bool = False
    """True if the keys may be any text, such as field names."""
    qualified: bool = False
    """True if a namespace may stand before a key: ``shop:users``."""

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Check the names and the values."""
        if not isinstance(node, Branch):
            yield Misfit(node.line, _("%(path)s is not a mapping.") % {"path": path}, _("Write 'name: value' pairs."))
            return
        if self.most is not None and len(node.pairs) > self.most:
            yield Misfit(
                node.line,
                _("%(path)s has %(pairs)s entries.") % {"path": path, "pairs": len(node.pairs)},
                _("Keep %(most)s.") % {"most": self.most},
            )
        for key, value in node.pairs:
            name = key.text.partition(":")[2] if self.qualified and ":" in key.text else key.text
            if not self.free and not is_name(name):
                advice = _("Use a letter, then letters, digits, '.', '_' or '-'.")
                yield Misfit(key.line, _("%(key)r in %(path)s is not a name.") % {"key": key.text, "path": path}, advice)
            yield from self.value.problems(value, f"{path}.{key.text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """A mapping with known properties and no others."""

    known: Mapping[str, Shape]
    needs: tuple[str, ...] = ()
    forbidden: Mapping[str, str] = field(default_factory=dict)
    """Properties that are known elsewhere, and what to do instead here, marked for translation."""

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Check the properties. One that is null is an error: a ``guarded:`` that lost its lines must not read as open."""
        if not isinstance(node, Branch):
            yield Misfit(node.line, _("%(path)s is not a mapping.") % {"path": path}, _("Write 'name: value' pairs."))
            return
        for key, value in node.pairs:
            yield from self._property(key, value, path)
        for name in self.needs:
            if name not in node:
                yield Misfit(
                    node.line,
                    _("%(path)s has no %(name)s.") % {"path": path, "name": name},
                    _("Add %(name)s.") % {"name": name},
                )

    def _property(self, key: Leaf, value: Node, path: str) -> Iterator[Misfit]:
        shape = self.known.get(key.text)
        if key.text in self.forbidden:
            yield Misfit(
                key.line, _("%(path)s cannot have %(key)r.") % {"path": path, "key": key.text}, _(self.forbidden[key.text])
            )
        elif shape is None:
            yield Misfit(
                key.line,
                _("%(path)s has an unknown property %(key)r.") % {"path": path, "key": key.text},
                suggest(key.text, self.known),
            )
        elif isinstance(value, Leaf) and value.is_null and shape is not ANYTHING:
            yield Misfit(
                key.line,
                _("%(path)s.%(key)s is empty.") % {"path": path, "key": key.text},
                _("Write a value, or remove the property."),
            )
        else:
            yield from shape.problems(value, f"{path}.{key.text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A mapping whose other properties depend on the text of one."""

    on: str
    shapes: Mapping[str, Shape]

    def problems(self, node: Node, path: str) -> Iterator[Misfit]:
        """Check against the shape that applies."""
        chosen = node.get(self.on) if isinstance(node, Branch) else None
        if isinstance(chosen, Leaf) and chosen.text in self.shapes:
            yield from self.shapes[chosen.text].problems(node, path)
        elif chosen is None:
            yield Misfit(node.line, _("%(path)s has no %(on)s.") % {"path": path, "on": self.on}, suggest("", self.shapes))
        else:
            yield from Text(choices=tuple(self.shapes)).problems(chosen, f"{path}.{self.on}")
