"""The properties of an operation: one that is misspelt may have been its security."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.zilla.expand.specification import Specification
from kafkaproxy.zilla.expand.trouble import Trouble
from kafkaproxy.zilla.shape import suggest
from kafkaproxy.zilla.tree import Branch, Leaf, Row

__all__ = ["ASYNCAPI", "EXTENSIONS", "OPENAPI", "check_keys", "tag_names"]

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
    """Raise ``Trouble`` for a property that means nothing; extensions of others do not matter."""
    names = (*known, *EXTENSIONS)
    for key, value in node.pairs:
        ours = not key.text.startswith("x-") or key.text.startswith("x-zilla")
        if ours and key.text not in names:
            message = gettext("An operation has an unknown property %(key)r.") % {"key": key.text}
            raise Trouble(specification.at(key.line), message, suggest(key.text, names))
        if key.text == "security" and isinstance(value, Leaf):
            message = gettext("security is empty.")
            raise Trouble(specification.at(key.line), message, gettext("Name the schemes, or remove it."))


def tag_names(specification: Specification, node: Branch) -> frozenset[str]:
    """Return the tags of an operation: texts in OpenAPI, mappings with a name in AsyncAPI."""
    tags = node.get("tags")
    items = tags.items if isinstance(tags, Row) else ()
    found = [specification.follow(item) for item in items]
    return frozenset(
        each.text if isinstance(each, Leaf) else each.text("name") for each in found if isinstance(each, Leaf | Branch)
    )
