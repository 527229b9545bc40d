"""The rules for names of configured objects, topics, header fields and methods, for forms, imports and run time alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from kafkaproxy.core.expressions import Template

__all__ = [
    "LONGEST_TOPIC",
    "is_header_name",
    "is_method",
    "is_name",
    "is_token",
    "is_topic_name",
    "may_name_topic",
    "nearest",
    "unusable_in_topic",
]

LONGEST_TOPIC: Final = 249
"""The most characters of a topic's name (org.apache.kafka.common.internals.Topic)."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_TOPICS: Final = re.compile(r"[^A-Za-z0-9._-]")


def is_name(text: str) -> bool:
    """Return True for a valid name of a gateway, entry, route, guard or cluster: a letter, then letters, digits and ``._-``."""
    return _NAME.fullmatch(text) is not None


def is_topic_name(text: str) -> bool:
    """Return True if Kafka allows a topic of this name."""
    return 0 < len(text) <= LONGEST_TOPIC and text not in (".", "..") and not unusable_in_topic(text)


def may_name_topic(template: Template) -> bool:
    """Return True if the template can render to a valid topic name, as far as its literal parts show."""
    if template.literal is not None:
        return is_topic_name(template.literal)
    fixed = "".join(part for part in template.parts if isinstance(part, str))
    return len(fixed) <= LONGEST_TOPIC and not unusable_in_topic(fixed)


def unusable_in_topic(text: str) -> str:
    """Return the first character that Kafka allows in no topic name; empty if there is none."""
    found = _NOT_IN_TOPICS.search(text)
    return "" if found is None else found[0]


def is_token(text: str) -> bool:
    """Return True if the text is a token (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def is_header_name(text: str) -> bool:
    """Return True for a valid name of a field or a record header: a token, possibly with colons (``:method``)."""
    return is_token(text.replace(":", "-"))


def is_method(text: str) -> bool:
    """Return True for one HTTP method: a token without ``|`` and ``*``, which stand for several methods elsewhere."""
    return is_token(text) and "|" not in text and "*" not in text


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant; empty if none is close."""
    return next(iter(get_close_matches(name, sorted(known), n=1)), "")
