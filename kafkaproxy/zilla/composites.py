"""asyncapi and openapi bindings: refused for now, with the operations that they stand for.

Each stands for bindings that the reference generates from API specifications. Importing the rest of the file as if they were
not there would look like success.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kafkaproxy.zilla.context import Context
from kafkaproxy.zilla.grammar import COMPOSITES
from kafkaproxy.zilla.read import ReadError, read_file, read_text
from kafkaproxy.zilla.resolve import Binding
from kafkaproxy.zilla.tree import Branch, Leaf, Node, Row

__all__ = ["refuse_composites"]

_METHODS: Final = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
_MOST: Final = 30


def refuse_composites(context: Context) -> None:
    """Refuse every composite binding, naming the operations that are found in its specifications."""
    for binding in context.graph.bindings.values():
        if binding.type in COMPOSITES:
            found = list(dict.fromkeys(_operations(binding, context)))
            names = ", ".join(found[:_MOST]) + (", …" if len(found) > _MOST else "")
            message = f"The {binding} is not expanded yet. Operations: {names or 'none that can be read from here'}."
            advice = "Write them as http-kafka and sse-kafka routes, or make the routes in the admin."
            context.report.refuse(binding.place, message, advice)


def _operations(binding: Binding, context: Context) -> Iterator[str]:
    for catalog, subject in _subjects(binding.options):
        text = _specification(binding.namespace, catalog, subject, context)
        if text is None:
            continue
        try:
            roots = read_text(text)
        except ReadError:
            continue
        for root in roots:
            if isinstance(root, Branch):
                yield from _named(root)


def _subjects(node: Node) -> Iterator[tuple[str, str]]:
    """Return catalogs and subjects from wherever a ``catalog`` stands: each dialect has its own place for it."""
    if isinstance(node, Row):
        for item in node.items:
            yield from _subjects(item)
    if not isinstance(node, Branch):
        return
    for key, value in node.pairs:
        if key.text != "catalog":
            yield from _subjects(value)
        elif isinstance(value, Branch):
            for name, entries in value.pairs:
                for each in entries.items if isinstance(entries, Row) else (entries,):
                    if isinstance(each, Branch):
                        yield name.text, each.text("subject")


def _specification(namespace: str, catalog: str, subject: str, context: Context) -> str | None:
    """Return a specification from an inline or filesystem catalog."""
    for document in context.graph.documents:
        catalogs = document.body.branch("catalogs")
        node = catalogs.branch(catalog) if document.name == namespace and catalogs is not None else None
        options = node.branch("options") if node is not None else None
        subjects = options.branch("subjects") if options is not None else None
        found = subjects.branch(subject) if subjects is not None else None
        if found is None:
            continue
        path = found.get("path")
        if isinstance(path, Leaf) and context.folder is not None:
            try:
                return read_file(context.folder / path.text)
            except ReadError:
                return None
        return found.text("schema") or None
    return None


def _named(root: Branch) -> Iterator[str]:
    """Return the operations of an OpenAPI document, or of an AsyncAPI document of version 2 or 3."""
    paths = root.branch("paths")
    for path, item in paths.pairs if paths is not None else ():
        for method, operation in item.pairs if isinstance(item, Branch) else ():
            if method.text in _METHODS and isinstance(operation, Branch):
                yield operation.text("operationId") or f"{method.text.upper()} {path.text}"
    operations = root.branch("operations")
    yield from (name.text for name, _ in (operations.pairs if operations is not None else ()))
    channels = root.branch("channels")
    for _, channel in channels.pairs if channels is not None else ():
        for verb in ("publish", "subscribe"):
            said = channel.branch(verb) if isinstance(channel, Branch) else None
            if said is not None and said.text("operationId"):
                yield said.text("operationId")
