"""What the schemas of messages say to us: whether there is a list, and whether something would be checked or converted."""

from __future__ import annotations

import re
from typing import Final

from kafkaproxy.zilla.expand.specification import Specification
from kafkaproxy.zilla.tree import Branch, Row

__all__ = ["JSON", "is_list", "stored_otherwise"]

JSON: Final = re.compile(r"application/(.+\+)?json")
_OTHER_FORMATS: Final = re.compile(r"avro|protobuf", re.IGNORECASE)


def is_list(specification: Specification, message: Branch) -> bool:
    """Whether the payload of a message is a JSON array."""
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
