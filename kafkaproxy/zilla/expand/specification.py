"""API specifications: trees whose parts refer to each other, read from inline and filesystem catalogs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from django.utils.translation import gettext, gettext_noop

from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.bindings.shape import has_expression, suggest
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.documents import Document
from kafkaproxy.zilla.yaml.read import ReadError, read_file, read_text
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row, located
from kafkaproxy.zilla.yaml.variables import Variables

__all__ = ["Catalogs", "ExpandError", "Specification", "reported"]

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


_INLINE: Final = gettext_noop("Put the text of the specification into a catalog of type inline.")
_LATEST: Final = ("", "latest")


@dataclass(slots=True)
class Catalogs:
    """Reads each document once, and remembers which catalogs were needed."""

    folder: Path | None
    """Where relative paths start; None: nothing may be read."""
    variables: Variables
    report: ImportReport
    used: set[str] = field(default_factory=set)
    """The namespaces whose catalogs were read."""
    _read: dict[tuple[str, str], Branch] = field(default_factory=dict)

    def specification(self, document: Document, label: Leaf, node: Branch, kind: str) -> Specification:
        """Return the document that an entry under ``specs`` names; raise ``ExpandError`` where it cannot be had."""
        place = document.place(label.line)
        catalog, subject = self._reference(document, label, node)
        name = f"{document.name}:{catalog.text}"
        type_, entry = self._entry(document, catalog, subject)
        _check_version(document, node, entry)
        root = self._read.get((name, subject.text))
        if root is None:
            root = self._file(document, entry) if type_ == "filesystem" else self._inline(document, entry)
            self._read[name, subject.text] = root
        found = Specification(label.text, kind, root, node.branch("security"), (name, subject.text), place)
        found.check_version()
        return found

    def _reference(self, document: Document, label: Leaf, node: Branch) -> tuple[Leaf, Leaf]:
        """Return the catalog and the subject. The reference reads only the first of each, so there may be one."""
        catalogs = node.branch("catalog")
        if catalogs is None or len(catalogs.pairs) != 1:
            raise ExpandError(
                document.place(label.line),
                gettext("%(label)r does not name one catalog.") % {"label": label.text},
                gettext("Name one under catalog."),
            )
        catalog, entry = catalogs.pairs[0]
        if isinstance(entry, Row) and len(entry.items) == 1:
            entry = entry.items[0]
        subject = entry.get("subject") if isinstance(entry, Branch) else None
        if not isinstance(subject, Leaf):
            message = gettext("%(catalog)r is not asked for a subject.") % {"catalog": catalog.text}
            raise ExpandError(document.place(catalog.line), message, gettext("Write the subject of one document."))
        return catalog, subject

    def _entry(self, document: Document, catalog: Leaf, subject: Leaf) -> tuple[str, Branch]:
        """Return the type of the catalog, and what it says of the subject."""
        found = self._catalog(document, catalog)
        options = found.branch("options")
        subjects = options.branch("subjects") if options is not None else None
        entry = subjects.branch(subject.text) if subjects is not None else None
        if subjects is None or entry is None:
            known = [key.text for key, _ in subjects.pairs] if subjects is not None else []
            message = gettext("The catalog %(catalog)r has no subject %(subject)r.") % {
                "catalog": catalog.text,
                "subject": subject.text,
            }
            raise ExpandError(document.place(subject.line), message, suggest(subject.text, known))
        self.used.add(document.name)
        return found.text("type"), entry

    def _catalog(self, document: Document, name: Leaf) -> Branch:
        catalogs = document.body.branch("catalogs")
        found = catalogs.branch(name.text) if catalogs is not None else None
        if catalogs is None or found is None:
            known = [key.text for key, _ in catalogs.pairs] if catalogs is not None else []
            advice = suggest(name.text, known) if known else gettext("Define it under catalogs.")
            raise ExpandError(document.place(name.line), gettext("There is no catalog %(name)r.") % {"name": name.text}, advice)
        if found.text("type") not in ("inline", "filesystem"):
            message = gettext("A catalog of type %(catalog_type)r is not read: %(name)r.") % {
                "catalog_type": found.text("type"),
                "name": name.text,
            }
            advice = gettext("Save the specification beside the zilla.yaml, and use a catalog of type filesystem; or inline.")
            raise ExpandError(document.place(catalogs.line_of(name.text)), message, advice)
        return found

    def _file(self, document: Document, entry: Branch) -> Branch:
        path = entry.get("path")
        if not isinstance(path, Leaf):
            raise ExpandError(
                document.place(entry.line), gettext("There is no path."), gettext("Write the path of the specification.")
            )
        place = document.place(path.line)
        self.variables.note(path, document.file)
        if self.folder is None:
            message = gettext("The specification %(path)r is in a file, and files are not read here.") % {"path": path.text}
            raise ExpandError(place, message, " ".join((gettext(_INLINE), gettext("Or use manage.py importzilla."))))
        resolved = self.variables.require(path.text, place, "The path of the specification")
        if resolved is None:
            raise ExpandError(place, gettext("The path is not known without its variable."), gettext("Give it with --env."))
        try:
            content = read_file(self.folder / resolved)
        except ReadError as error:
            file = FilePlace(resolved, error.line) if error.line else place
            raise ExpandError(
                file, gettext("%(resolved)s: %(message)s") % {"resolved": resolved, "message": error.message}, error.advice
            ) from error
        return _parsed(content, resolved, 1, 0)

    def _inline(self, document: Document, entry: Branch) -> Branch:
        schema = entry.get("schema")
        if not isinstance(schema, Leaf):
            raise ExpandError(document.place(entry.line), gettext("There is no schema."), gettext(_INLINE))
        if schema.literal:
            return _parsed(schema.text, document.file, schema.line + 1, 0)
        return _parsed(schema.text, document.file, schema.line, schema.line)


def _check_version(document: Document, node: Branch, entry: Branch) -> None:
    """Raise for a version that the catalog does not have: another document would be read in its place."""
    catalogs = node.branch("catalog")
    reference = catalogs.pairs[0][1] if catalogs is not None else None
    if isinstance(reference, Row):
        reference = reference.items[0]
    wanted = reference.text("version") if isinstance(reference, Branch) else ""
    if isinstance(reference, Branch) and wanted not in (*_LATEST, entry.text("version")) and not has_expression(wanted):
        message = gettext("The catalog has no version %(wanted)r.") % {"wanted": wanted}
        raise ExpandError(document.place(reference.line_of("version")), message, gettext("Write latest."))


def _parsed(content: str, file: str, first_line: int, line: int) -> Branch:
    """Return the tree of a YAML or JSON text. ``line``, where it is given, is the line of all of it."""
    if content.lstrip().startswith("{"):
        content = content.replace("\t", " ")  # JSON has tabs between its tokens, never inside them; YAML has none
    try:
        roots = read_text(content, first_line)
    except ReadError as error:
        raise ExpandError(FilePlace(file, line or error.line), error.message, error.advice) from error
    if len(roots) != 1 or not isinstance(roots[0], Branch):
        message = gettext("This is not one specification.")
        raise ExpandError(
            FilePlace(file, line or first_line), message, gettext("Give one AsyncAPI or OpenAPI document, as YAML or JSON.")
        )
    root = located(roots[0], file, line)
    assert isinstance(root, Branch)
    return root
