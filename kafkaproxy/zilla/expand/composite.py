"""A binding that stands for others: its specifications, and where it leads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.translation import gettext

from kafkaproxy.specs.places import FilePlace
from kafkaproxy.zilla.bindings.shape import suggest
from kafkaproxy.zilla.expand.catalogs import Catalogs
from kafkaproxy.zilla.expand.specification import ExpandError, Specification
from kafkaproxy.zilla.yaml.documents import Document
from kafkaproxy.zilla.yaml.tree import Branch, Leaf

__all__ = ["Choice", "Composite", "Selection", "glob"]

Key = tuple[str, str]


def glob(pattern: str) -> re.Pattern[str]:
    """Return a pattern in which ``*`` is any run of characters."""
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Selection:
    """Operations: of one specification (empty: of any), by name, where ``*`` may stand in it, and by tag."""

    spec: Leaf | None = None
    operation: Leaf | None = None
    tag: Leaf | None = None

    @classmethod
    def read(cls, node: Branch) -> Selection:
        """Read ``when`` or ``with``, in the words of either dialect."""
        return cls(_either(node, "spec", "api-id"), _either(node, "operation", "operation-id"), _either(node, "tag"))

    def admits(self, label: str, name: str, tags: frozenset[str]) -> bool:
        """Return True if an operation is among these."""
        if self.spec is not None and self.spec.text != label:
            return False
        if self.operation is not None and not (name and glob(self.operation.text).fullmatch(name)):
            return False
        return self.tag is None or self.tag.text in tags


def _either(node: Branch, *names: str) -> Leaf | None:
    return next((found for name in names if isinstance(found := node.get(name), Leaf)), None)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A route of a composite binding; its own exit is the last one, for everything."""

    exit: Leaf
    when: tuple[Selection, ...]
    with_: Selection
    line: int

    def admits(self, label: str, name: str, tags: frozenset[str]) -> bool:
        """Return True if an operation takes this route."""
        return not self.when or any(each.admits(label, name, tags) for each in self.when)


@dataclass(frozen=True, slots=True, eq=False)
class Composite:
    """One such binding of a document."""

    document: Document
    name: Leaf
    node: Branch

    @property
    def type(self) -> str:
        """Its type."""
        return self.node.text("type")

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.node.text("kind")

    @property
    def key(self) -> Key:
        """Its namespace and name."""
        return self.document.name, self.name.text

    @property
    def options(self) -> Branch:
        """Its options."""
        return self.node.branch("options") or Branch((), self.node.line)

    def at(self, line: int) -> FilePlace:
        """Return a line of its file."""
        return self.document.place(line)

    @property
    def place(self) -> FilePlace:
        """Where it stands."""
        return self.at(self.name.line)

    def __str__(self) -> str:
        return f"{self.type} {self.kind} binding {self.name.text!r}"

    def target(self, name: str) -> Key:
        """Resolve ``name`` or ``namespace:name``."""
        first, colon, rest = name.partition(":")
        return (first, rest) if colon else (self.document.name, name)

    def choices(self) -> Iterator[Choice]:
        """Return its routes, in order."""
        for route in self.node.branches("routes"):
            when = tuple(Selection.read(each) for each in route.branches("when"))
            if isinstance(exit_ := route.get("exit"), Leaf):
                yield Choice(exit_, when, Selection.read(route.branch("with") or Branch((), route.line)), route.line)
        if isinstance(exit_ := self.node.get("exit"), Leaf):
            yield Choice(exit_, (), Selection(), exit_.line)

    def specs(self, kind: str = "") -> Branch:
        """Return what stands under ``specs``: for a proxy between two kinds, what stands there for one of them."""
        specs = self.options.branch("specs") or Branch((), self.options.line)
        return specs.branch(kind) or Branch((), specs.line) if kind else specs

    def specifications(self, catalogs: Catalogs, kind: str, *, nested: bool = False) -> list[Specification]:
        """Return its specifications, read; raise ``ExpandError`` for one that cannot be."""
        found = self.specs(kind) if nested else self.specs()
        pairs = [(label, node) for label, node in found.pairs if isinstance(node, Branch)]
        return [catalogs.specification(self.document, label, node, kind) for label, node in pairs]

    def named(self, label: Leaf, specifications: list[Specification]) -> Specification:
        """Return the specification with a label; raise ``ExpandError`` where there is none."""
        for each in specifications:
            if each.label == label.text:
                return each
        message = gettext("There is no specification %(label)r in %(name)r.") % {"label": label.text, "name": self.name.text}
        raise ExpandError(self.at(label.line), message, suggest(label.text, [each.label for each in specifications]))
