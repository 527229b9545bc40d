"""Event framing (WHATWG HTML, section 9.2): a record may hold any bytes; the client gets the same, and none end the frame.

A frame is ``id``, ``event`` (only if it is not ``message``), ``data`` lines and a blank line, as ``field:value``. CR, LF and
CRLF in a value each begin a new ``data`` line, since a parser ends a line at each of them. A parser drops one space after the
colon, so a line that begins with a space gets one more.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["COMMENT", "challenge_frame", "frame", "gap_frame", "id_frame", "is_text", "record_frame", "retry_frame"]

COMMENT: Final = b":\n\n"
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


def record_frame(event_id: str, key: bytes | None, value: bytes | None, *, as_base64: bool) -> bytes:
    """Return the frame of a record. A null value is ``event:delete`` with the key, base64url, as data (no data without a key).

    A value that is not UTF-8 is ``event:binary`` with base64 data. With ``as_base64`` every value is base64, as ``message``.
    """
    if value is None:
        return frame(event_id, b"delete", None if key is None else base64.urlsafe_b64encode(key))
    if as_base64:
        return frame(event_id, None, base64.b64encode(value))
    if is_text(value):
        return frame(event_id, None, value)
    return frame(event_id, b"binary", base64.b64encode(value))


def frame(event_id: str, event: bytes | None, data: bytes | None) -> bytes:
    """Return the frame of an event. ``event_id`` and ``event`` come from this package and hold no line end and no NUL."""
    head = b"id:%b\n" % event_id.encode()
    if event is not None:
        head += b"event:%b\n" % event
    if data is None:
        return head + b"\n"
    if b"\n" not in data and b"\r" not in data:
        return b"%bdata:%b%b\n\n" % (head, b" " if data.startswith(b" ") else b"", data)
    lines = (b"data:%b%b\n" % (b" " if line.startswith(b" ") else b"", line) for line in _LINE_END.split(data))
    return head + b"".join(lines) + b"\n"


def challenge_frame(challenge: Mapping[str, Any]) -> bytes:
    """Return the event that requests a new credential. It has no id, so that the client's position stays."""
    return b"event:challenge\ndata:%b\n\n" % json.dumps(challenge, separators=(",", ":")).encode()


def id_frame(event_id: str) -> bytes:
    """Return an event that the client does not see: it only moves its last event id."""
    return b"id:%b\n\n" % event_id.encode()


def gap_frame(event_id: str, lost: Mapping[str, Any]) -> bytes:
    """Return the event that says which records were lost; the stream continues at ``event_id``."""
    return frame(event_id, b"gap", json.dumps(lost, separators=(",", ":")).encode())


def retry_frame(milliseconds: int) -> bytes:
    """Return the field that sets the client's reconnection time."""
    return b"retry:%d\n\n" % milliseconds


def is_text(value: bytes) -> bool:
    """Return True if the bytes are UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
