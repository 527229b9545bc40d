"""The operations of a specification: their properties, names, the schemas of their messages, and their extensions.

``x-zilla-http-kafka`` and ``x-zilla-sse-kafka`` hold filters, key and overrides, with ``{identity}`` as a whole value. An
unknown property is refused: it may be a misspelt ``security``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.zilla.bindings.shape import ANYTHING, Items, NamedItems, Properties, Text, suggest
from kafkaproxy.zilla.expand.specification import ExpandError, Specification
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Row, mapping, text

__all__ = [
    "ASYNCAPI",
    "EXTENSIONS",
    "JSON",
    "OPENAPI",
    "Alternative",
    "Requirement",
    "Source",
    "Target",
    "check_extension",
    "check_keys",
    "filters",
    "is_list",
    "key",
    "overrides",
    "stored_otherwise",
    "tag_names",
]


@dataclass(frozen=True, slots=True)
class Requirement:
    """A security scheme that an operation asks for, and the roles that it wants there."""

    scheme: Leaf
    roles: tuple[Leaf, ...]


Alternative = tuple[Requirement, ...]
"""Requirements that all have to hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An operation of the API that clients see."""

    specification: Specification
    name: str
    """Empty where the document gives none."""
    line: int
    method: Leaf
    path: Leaf
    is_stream: bool
    tags: frozenset[str]
    security: tuple[Alternative, ...]
    """One of them has to hold; none: it is open."""
    merges: bool
    """True if a fetch answers with a list."""
    answers: tuple[tuple[Leaf, Leaf], ...]
    """Fields of an answer that comes later, with their templates: ``/items;cid={correlationId}``."""
    extension: Branch | None
    """What ``x-zilla-http-kafka`` says, or ``x-zilla-sse-kafka`` for a stream."""
    checks: tuple[int, ...]
    """The lines of the schemas that the reference checks requests, or events, against."""

    def __str__(self) -> str:
        shown = f"{self.method.text} {self.path.text}"
        return f"{self.name} ({shown})" if self.name else shown


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """An operation on Kafka."""

    specification: Specification
    name: str
    line: int
    sends: bool
    topic: Leaf
    tags: frozenset[str]
    reply_to: Leaf | None
    correlation: Leaf | None
    """The name of the record header that a correlation id is in."""


JSON: Final = re.compile(r"application/(.+\+)?json")
_OTHER_FORMATS: Final = re.compile(r"avro|protobuf", re.IGNORECASE)


def is_list(specification: Specification, message: Branch) -> bool:
    """Return True if the payload of a message is a JSON array."""
    schema = _schema(specification, message)
    return schema is not None and schema.text("type") == "array"


def stored_otherwise(specification: Specification, message: Branch, default: str) -> int | None:
    """Return where it is said that records are no JSON: they are converted between the two. ``default``: the content type."""
    payload = specification.branch(message, "payload") if isinstance(message.get("payload"), Branch) else None
    if payload is not None and _OTHER_FORMATS.search(payload.text("schemaFormat")):
        return payload.line_of("schemaFormat")
    if _OTHER_FORMATS.search(message.text("contentType", default)):
        return message.line_of("contentType")
    return None


def _schema(specification: Specification, message: Branch) -> Branch | None:
    payload = message.get("payload")
    if not isinstance(payload, Branch | Row):
        return None
    found = specification.branch(message, "payload")
    if found is not None and "schemaFormat" in found:
        found = specification.branch(found, "schema")
    return found


EXTENSIONS: Final = ("x-zilla-http-kafka", "x-zilla-sse", "x-zilla-sse-kafka")
ASYNCAPI: Final = (
    *("action", "channel", "title", "summary", "description", "security", "tags", "externalDocs", "bindings", "traits"),
    *("messages", "reply"),
)
OPENAPI: Final = (
    *("tags", "summary", "description", "externalDocs", "operationId", "parameters", "requestBody", "responses"),
    *("callbacks", "deprecated", "security", "servers"),
)


def check_keys(specification: Specification, node: Branch, known: Iterable[str]) -> None:
    """Raise ``ExpandError`` for a property that means nothing; extensions of others do not matter."""
    names = (*known, *EXTENSIONS)
    for key, value in node.pairs:
        ours = not key.text.startswith("x-") or key.text.startswith("x-zilla")
        if ours and key.text not in names:
            message = gettext("An operation has an unknown property %(key)r.") % {"key": key.text}
            raise ExpandError(specification.at(key.line), message, suggest(key.text, names))
        if key.text == "security" and isinstance(value, Leaf):
            message = gettext("security is empty.")
            raise ExpandError(specification.at(key.line), message, gettext("Name the schemes, or remove it."))


def tag_names(specification: Specification, node: Branch) -> frozenset[str]:
    """Return the tags of an operation: texts in OpenAPI, mappings with a name in AsyncAPI."""
    tags = node.get("tags")
    items = tags.items if isinstance(tags, Row) else ()
    found = [specification.follow(item) for item in items]
    return frozenset(
        each.text if isinstance(each, Leaf) else each.text("name") for each in found if isinstance(each, Leaf | Branch)
    )


_IDENTITY: Final = "{identity}"
_FILTERS: Final = Items(Properties(known={"key": Text(), "headers": NamedItems(Text(), free=True)}))
_OVERRIDES: Final = NamedItems(Text(), free=True)
_IDLE: Final = ("method", "bindingVersion")
"""Properties that the reference does not read."""
_SHAPE: Final = Properties(
    known={"filters": _FILTERS, "key": Text(), "overrides": _OVERRIDES, "method": ANYTHING, "bindingVersion": ANYTHING}
)


def check_extension(source: Source, *, produces: bool, report: ImportReport) -> None:
    """Refuse what is unknown in an operation's extension, and name what has no effect."""
    extension = source.extension
    if extension is None:
        return
    for problem in _SHAPE.problems(extension, f"The extension of {source}"):
        report.refuse(source.specification.at(problem.line), problem.message, problem.advice)
    if not produces and not source.is_stream and "filters" in extension and "{" in source.path.text:
        message = gettext(
            "%(source)s serves what has the key of its path, or else passes a filter: alternatives, as in the reference."
        ) % {"source": source}
        report.warn(source.specification.at(extension.line_of("filters")), message, gettext("Let the path have no parameter."))
    idle = (*_IDLE, "filters") if produces else (*_IDLE, "key", "overrides")
    for name in idle:
        if name in extension:
            message = gettext("%(name)s of the extension of %(source)s: it has no effect there.") % {
                "name": name,
                "source": source,
            }
            report.ignore(source.specification.at(extension.line_of(name)), message)


def filters(source: Source, identity: Leaf | None) -> list[Branch]:
    """Return the filters, each as a route has it."""
    items = source.extension.branches("filters") if source.extension is not None else ()
    return [_filter(source, item, identity) for item in items]


def _filter(source: Source, item: Branch, identity: Leaf | None) -> Branch:
    own, headers = item.get("key"), item.branch("headers")
    return mapping(
        item.line,
        {
            "key": _value(source, own, identity) if isinstance(own, Leaf) else None,
            "headers": _values(source, headers, identity) if headers is not None else None,
        },
    )


def key(source: Source, identity: Leaf | None) -> Leaf | None:
    """Return the key that the extension wants."""
    found = source.extension.get("key") if source.extension is not None else None
    return _value(source, found, identity) if isinstance(found, Leaf) else None


def overrides(source: Source, identity: Leaf | None) -> Branch | None:
    """Return the record headers that the extension sets."""
    found = source.extension.branch("overrides") if source.extension is not None else None
    return _values(source, found, identity) if found is not None else None


def _values(source: Source, node: Branch, identity: Leaf | None) -> Branch:
    pairs: Iterable[tuple[Leaf, Leaf]] = node.text_items()
    return Branch(tuple((name, _value(source, value, identity)) for name, value in pairs), node.line)


def _value(source: Source, value: Leaf, identity: Leaf | None) -> Leaf:
    if value.text != _IDENTITY:
        return value
    if identity is None:
        message = gettext("Nobody's identity is meant by {identity}: no guard is known for %(source)s.") % {"source": source}
        advice = gettext("Give the operation a security scheme, and name a guard for it under security of the specification.")
        raise ExpandError(source.specification.at(value.line), message, advice)
    return text(f"${{guarded['{identity.text}'].identity}}", value.line)
