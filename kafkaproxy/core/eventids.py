"""Event ids: the position of a stream in the reference's form, so that clients of the reference keep their position.

``<progress>`` or ``<progress>/<etag>``, or with the key ``["<key, base64url>","<progress>[/<etag>]"]``; a null key is ``null``.
Key and etag are for the client; resuming needs only the progress. So they are left out of an id that would be too long.
"""

from __future__ import annotations

import base64
import re
from typing import Final
from urllib.parse import quote

from kafkaproxy.core import progress

__all__ = ["BadEventId", "is_position", "make_event_id", "parse_event_id"]

# Percent-encoded outside of these: quotes and backslashes would break the JSON of the keyed form, control characters the frame.
_ETAG_SAFE: Final = "!#$&'()*+,/:;<=>?@[]^`{|}~"
# Not parsed as JSON: the reference does not escape etags, not even quotes.
_KEYED: Final = re.compile(r'\[(?:null|"[^"]*"),"([^"/]*)(?:/.*)?"\]', re.DOTALL)
_POSITION: Final = re.compile(r'[\w=-]*|\[null,"[\w=-]*"\]', re.ASCII)

_MAX_PARTITION: Final = 2**31 - 1
_MAX_OFFSET: Final = 2**63 - 1


class BadEventId(ValueError):
    """The client's last event id is not one of ours."""


def make_event_id(position: str, key: bytes | None, etag: bytes | None, *, keyed: bool, limit: int | None = None) -> str:
    """Return an id for an encoded progress. If it has more than ``limit`` bytes, the etag is left out, then the key."""
    event_id = _make(position, key, etag, keyed=keyed)
    if limit is not None and len(event_id) > limit:
        event_id = _make(position, key, None, keyed=keyed)
        if len(event_id) > limit:
            return _make(position, None, None, keyed=keyed)
    return event_id


def _make(position: str, key: bytes | None, etag: bytes | None, *, keyed: bool) -> str:
    if etag is not None:
        position = f"{position}/{quote(etag, safe=_ETAG_SAFE)}"
    if not keyed:
        return position
    key_text = "null" if key is None else f'"{base64.urlsafe_b64encode(key).decode()}"'
    return f'[{key_text},"{position}"]'


def is_position(text: str) -> bool:
    """Return True if an id has neither key nor etag, so that nothing could be left out of it."""
    return _POSITION.fullmatch(text) is not None


def parse_event_id(text: str) -> dict[int, int]:
    """Return partition → next offset; raise :class:`BadEventId` if the text is not an id of any form.

    An offset below zero is the reference's "nothing delivered yet". Partitions below zero are not part of the position.
    """
    try:
        position = progress.decode(_position(text))
    except progress.BadProgress as error:
        raise BadEventId(str(error)) from None
    if any(partition > _MAX_PARTITION or offset > _MAX_OFFSET for partition, offset in position.items()):
        raise BadEventId("A number is larger than Kafka has.")
    return {partition: offset for partition, offset in position.items() if partition >= 0}


def _position(text: str) -> str:
    if not text.startswith("["):
        return text.partition("/")[0]
    found = _KEYED.fullmatch(text)
    if found is None:
        raise BadEventId("It is not an array of a key and a position.")
    return found[1]
