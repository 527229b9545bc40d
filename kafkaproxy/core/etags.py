"""Entity tags: how they are made, and the conditional fields that carry them back (RFC 9110 sections 8.8, 13).

An opaque tag is ``<progress>`` or ``<progress>/<the record's own etag>``, the reference's form, in quotes. The progress in a
tag has an extra pair for partition -2: a fingerprint of the topic's id, so that a re-created topic never answers 304 for a
record of the old one. Decoders of the reference ignore partitions below zero.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from kafkaproxy.core import progress

__all__ = ["IfNoneMatch", "merge_etag", "parse_if_match", "parse_if_none_match", "record_etag"]

FINGERPRINT_PARTITION: Final = -2
DIGEST_PARTITION: Final = -3
# RFC 9110 section 8.8.3: etagc. Other characters are percent-encoded, so that any record header makes a valid tag.
_ETAGC_SAFE: Final = "!#$&'()*+,/:;<=>?@[\\]^`{|}~"
# A member of a list: an entity tag, or any text up to the next comma. Possessive throughout: a field line is as long as the
# server allows, and backtracking over it would block every other request.
_MEMBER: Final = re.compile(r'[ \t,]*+(?:(?:W/)?"([^"]*+)"(?=[ \t]*+(?:,|$))|([^,]++))')


def fingerprint(topic_id: bytes) -> int:
    """Return 32 bits that distinguish topics of the same name."""
    return int.from_bytes(hashlib.blake2b(topic_id, digest_size=4).digest())


def record_etag(topic_fingerprint: int, partition: int, offset: int, own: str | None) -> str:
    """Return the quoted strong tag of one record: its position, then its own ``etag`` header if it has one."""
    tag = progress.encode({partition: offset + 1, FINGERPRINT_PARTITION: topic_fingerprint})
    return f'"{tag}/{quote(own, safe=_ETAGC_SAFE)}"' if own is not None else f'"{tag}"'


def merge_etag(topic_fingerprint: int, digest: bytes) -> str:
    """Return the quoted strong tag of a merge; ``digest`` identifies the set of records that was merged."""
    pairs = {FINGERPRINT_PARTITION: topic_fingerprint, DIGEST_PARTITION: int.from_bytes(digest[:8], signed=True)}
    return f'"{progress.encode(pairs)}"'


@dataclass(frozen=True, slots=True)
class IfNoneMatch:
    """A parsed ``if-none-match`` field: ``*``, or the opaque tags."""

    any: bool
    tags: frozenset[str]

    def matches(self, etag: str | None) -> bool:
        """Return True if a representation with this (quoted) tag matches; None is one without a tag. The comparison is weak."""
        if etag is None:
            return False
        return self.any or etag.strip('"') in self.tags


def parse_if_none_match(values: Iterable[str]) -> IfNoneMatch | None:
    """Parse the lines of the field; None if there is nothing usable. Unquoted tags, the reference's form, are accepted too."""
    tags = list(_entity_tags(values))
    if not tags:
        return None
    return IfNoneMatch(any=("*", False) in tags, tags=frozenset(tag for tag, _ in tags))


def parse_if_match(values: Iterable[str]) -> str | None:
    """Return the ``if-match`` for the service: the record's own etag from the first tag that has one.

    A tag that is not one of ours is the service's own and is returned as it is, and so is ``*``. None if all tags are ours and
    none contains a record's etag.
    """
    for tag, _ in _entity_tags(values):
        position, slash, own = tag.partition("/")
        if not _is_progress(position):
            return tag
        if slash:
            return unquote(own)
    return None


def _is_progress(text: str) -> bool:
    try:
        progress.decode(text)
    except progress.BadProgress:
        return False
    return True


def _entity_tags(values: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield each opaque tag, and True if it was quoted."""
    for value in values:
        for found in _MEMBER.finditer(value.strip(" \t,")):
            quoted, bare = found.groups()
            yield (quoted, True) if quoted is not None else (bare.rstrip(" \t"), False)
