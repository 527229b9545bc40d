"""Documents from inline and filesystem catalogs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from django.utils.translation import gettext, gettext_noop

from kafkaproxy.specs.places import FilePlace
from kafkaproxy.zilla.bindings.shape import has_expression, suggest
from kafkaproxy.zilla.expand.specification import ExpandError, Specification
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.documents import Document
from kafkaproxy.zilla.yaml.read import ReadError, read_file, read_text
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Row, located
from kafkaproxy.zilla.yaml.variables import Variables

__all__ = ["Catalogs"]

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
