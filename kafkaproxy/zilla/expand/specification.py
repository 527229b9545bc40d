"""An API specification: a tree whose parts refer to each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from django.utils.translation import gettext, gettext_noop

from kafkaproxy.specs.places import FilePlace
from kafkaproxy.zilla.bindings.shape import suggest
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row

__all__ = ["ExpandError", "Specification", "reported"]

_BESIDE_A_REF: Final = frozenset({"$ref", "summary", "description"})
_VERSIONS: Final = {"asyncapi": re.compile(r"3\.[0-9]+\.[0-9]+.*"), "openapi": re.compile(r"3\.[01]\.[0-9]+.*")}
_WANTED: Final = {
    "asyncapi": gettext_noop("AsyncAPI 3 is understood, as in the reference: convert it, for example with 'asyncapi convert'."),
    "openapi": gettext_noop("OpenAPI 3.0 and 3.1 are understood: convert it."),
}


@dataclass(frozen=True, slots=True, eq=False)
class Specification:
    """One document of a catalog, by the label that a binding gives it."""

    label: str
    kind: str
    """``asyncapi`` or ``openapi``."""
    root: Branch
    security: Branch | None
    """Which guard stands for which security scheme; None where the dialect, or the file, has no such table."""
    origin: tuple[str, str]
    """Catalog and subject: two labels of one document mean the same."""
    place: FilePlace
    """Where the binding names it."""

    def at(self, line: int) -> FilePlace:
        """Return a line of the document."""
        return FilePlace(self.place.file, line)

    def check_version(self) -> None:
        """Raise ``ExpandError`` for a document of another kind, or of a version that works otherwise."""
        version = self.root.get(self.kind)
        if not isinstance(version, Leaf):
            message = gettext("%(label)r is not an %(kind)s document: it has no property %(kind)r.") % {
                "label": self.label,
                "kind": self.kind,
            }
            raise ExpandError(
                self.at(self.root.line), message, gettext("Name the right subject, or the right kind of binding.")
            )
        if not _VERSIONS[self.kind].fullmatch(version.text):
            message = gettext("%(label)r is an %(kind)s document of version %(version)s.") % {
                "label": self.label,
                "kind": self.kind,
                "version": version.text,
            }
            raise ExpandError(self.at(version.line), message, gettext(_WANTED[self.kind]))

    def follow(self, node: Node | None, seen: frozenset[str] = frozenset()) -> Node | None:
        """Return what a node stands for, through ``$ref``; raise ``ExpandError`` where that leads nowhere."""
        while isinstance(node, Branch) and isinstance(ref := node.get("$ref"), Leaf):
            place = self.at(ref.line)
            if ref.text in seen:
                raise ExpandError(
                    place,
                    gettext("%(ref)r leads in a circle.") % {"ref": ref.text},
                    gettext("Let one of the references stand for itself."),
                )
            if not ref.text.startswith("#/"):
                message = gettext("%(ref)r is in another document, and is not fetched.") % {"ref": ref.text}
                raise ExpandError(
                    place, message, gettext("Put it into this one, for example with 'redocly bundle' or 'asyncapi bundle'.")
                )
            if others := [key for key, _ in node.pairs if key.text not in _BESIDE_A_REF]:
                message = gettext("%(key)r stands beside $ref, where it has no effect.") % {"key": others[0].text}
                raise ExpandError(self.at(others[0].line), message, gettext("Put it into what the reference leads to."))
            seen |= {ref.text}
            node = self._find(ref, seen)
        return node

    def _find(self, ref: Leaf, seen: frozenset[str]) -> Node:
        node: Node = self.root
        for part in ref.text[2:].split("/"):
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            above = self.follow(node, seen)
            found: Node | None = None
            if isinstance(above, Branch):
                found = above.get(name)
            elif isinstance(above, Row) and name.isdecimal() and int(name) < len(above.items):
                found = above.items[int(name)]
            if found is None:
                known = [key.text for key, _ in above.pairs] if isinstance(above, Branch) else []
                message = gettext("There is no %(ref)r in this document: %(name)r is missing.") % {
                    "ref": ref.text,
                    "name": name,
                }
                raise ExpandError(self.at(ref.line), message, suggest(name, known))
            node = found
        return node

    def branch(self, holder: Branch | None, name: str) -> Branch | None:
        """Return the mapping ``name``, or what it refers to; raise ``ExpandError`` where it is something else."""
        node = self.follow(holder.get(name)) if holder is not None else None
        if node is not None and not isinstance(node, Branch):
            raise ExpandError(
                self.at(node.line),
                gettext("%(name)s is not a mapping.") % {"name": name},
                gettext("Write 'name: value' pairs."),
            )
        return node

    def branches(self, holder: Branch | None, name: str) -> Iterator[tuple[Leaf, Branch]]:
        """Return the mappings under the mapping ``name``, by their names."""
        inner = self.branch(holder, name)
        for key, value in inner.pairs if inner is not None else ():
            found = self.follow(value)
            if isinstance(found, Leaf) and key.text.startswith("x-"):
                continue
            if not isinstance(found, Branch):
                raise ExpandError(
                    self.at(key.line),
                    gettext("%(key)r is not a mapping.") % {"key": key.text},
                    gettext("Write 'name: value' pairs."),
                )
            yield key, found

    def rows(self, holder: Branch | None, name: str) -> Iterator[tuple[Branch, Branch]]:
        """Return the mappings of the list ``name``, each as it stands there and as what it stands for."""
        node = self.follow(holder.get(name)) if holder is not None else None
        if node is not None and not isinstance(node, Row):
            raise ExpandError(
                self.at(node.line), gettext("%(name)s is not a list.") % {"name": name}, gettext("Begin each item with '- '.")
            )
        for item in node.items if node is not None else ():
            found = self.follow(item)
            if not isinstance(item, Branch) or not isinstance(found, Branch):
                raise ExpandError(
                    self.at(item.line),
                    gettext("%(name)s has something else than mappings.") % {"name": name},
                    gettext("Write 'name: value' pairs."),
                )
            yield item, found

    def scheme(self, name: str) -> Branch | None:
        """Return a security scheme by its name."""
        schemes = self.branch(self.branch(self.root, "components"), "securitySchemes")
        return self.branch(schemes, name)


class ExpandError(ValueError):
    """Something cannot be expanded: where it stands, the message, and what to do about it."""

    def __init__(self, place: FilePlace, message: str, advice: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message
        self.advice = advice


@contextmanager
def reported(report: ImportReport) -> Iterator[None]:
    """Refuse, in the report, what stops the block."""
    try:
        yield
    except ExpandError as error:
        report.refuse(error.place, error.message, error.advice)
