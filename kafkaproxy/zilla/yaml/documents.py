"""Which configurations a file holds: a zilla.yaml, several in one stream, a fragment, or one wrapped in Compose or Helm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext as _

from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.read import ReadError, read_text
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node

__all__ = ["Document", "find_documents"]

_TOP: Final = frozenset({"name", "bindings", "guards", "vaults", "catalogs", "stores", "telemetry"})
_HELM: Final = "zilla.yaml"


@dataclass(frozen=True, slots=True)
class Document:
    """One namespace. ``name`` is empty where the text has none (a fragment)."""

    name: str
    body: Branch
    file: str

    def place(self, line: int) -> FilePlace:
        """Return a line of this document."""
        return FilePlace(self.file, line)


def find_documents(text: str, file: str, report: ImportReport) -> list[Document]:
    """Return the configurations in ``text``; what cannot be read is refused in ``report``."""
    try:
        documents = [each for root in read_text(text) for each in _documents(root, file)]
    except ReadError as error:
        report.refuse(FilePlace(file, error.line), error.message, error.advice)
        return []
    if not documents:
        report.refuse(FilePlace(file, 0), _("There is nothing in this file."), _("Give a zilla.yaml."))
    _check_names(documents, report)
    return documents


def _check_names(documents: list[Document], report: ImportReport) -> None:
    seen: dict[str, Document] = {}
    for document in documents:
        first = seen.setdefault(document.name, document)
        if first is not document:
            place = document.place(document.body.line_of("name"))
            named = _("The name %(document)r is taken by the document at line %(line)s.") % {
                "document": document.name,
                "line": first.body.line,
            }
            report.refuse(place, named, _("Give each document of the file its own name."))


def _documents(root: Node, file: str, *, inner: bool = False) -> Iterator[Document]:
    if not isinstance(root, Branch):
        raise ReadError(root.line, _("This is not a configuration: it has no properties."), _("Give a zilla.yaml."))
    if not inner and "bindings" not in root and (wrapped := list(_wrapped(root))):
        for leaf, undollar in wrapped:
            yield from _inner(leaf, file, undollar=undollar)
    elif _is_fragment(root):
        yield Document("", Branch(((Leaf("bindings", root.line), root),), root.line), file)
    elif _TOP.isdisjoint(key.text for key, _ in root.pairs):
        raise ReadError(
            root.line,
            _("This is not a zilla.yaml: it has no bindings."),
            _("Give a zilla.yaml, a map of bindings, or a Compose file with one under configs."),
        )
    else:
        yield Document(root.text("name"), root, file)


def _is_fragment(root: Branch) -> bool:
    """Return True if these are bare bindings, as the reference's documentation shows them."""
    if not _TOP.isdisjoint(key.text for key, _ in root.pairs):
        return False
    return any(isinstance(value, Branch) and "type" in value for _, value in root.pairs)


def _wrapped(root: Branch) -> Iterator[tuple[Leaf, bool]]:
    """Return the texts inside a wrapper that look like configurations, and whether ``$$`` stands for ``$`` in them."""
    for holder in (root, root.branch("data")):  # Helm values, a Kubernetes ConfigMap
        value = holder.get(_HELM) if holder is not None else None
        if isinstance(value, Leaf):
            yield value, False
    configs = root.branch("configs")
    for _name, config in configs.pairs if configs is not None else ():
        content = config.get("content") if isinstance(config, Branch) else None
        if isinstance(content, Leaf) and "bindings:" in content.text:
            yield content, True


def _inner(leaf: Leaf, file: str, *, undollar: bool) -> Iterator[Document]:
    text = leaf.text.replace("$$", "$") if undollar else leaf.text
    first_line = leaf.line + 1 if leaf.literal else leaf.line
    for root in read_text(text, first_line):
        yield from _documents(root, file, inner=True)
