"""Records as people read them: JSON indented, binary as hex, and nothing left out without saying so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from kafkaproxy.worker.types import Record

__all__ = ["Content", "ShownRecord", "show", "show_record"]

_MOST: Final = 1 << 16
_MOST_HEX: Final = 1 << 11
_WHITE: Final = frozenset("\n\r\t")


@dataclass(slots=True)
class Content:
    """A key, a header or a value: ``kind`` is null, empty, json, text or hex; ``left_out`` counts bytes that are not shown."""

    kind: str
    text: str = ""
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class ShownRecord:
    """A record with its place, ready for a page."""

    topic: str
    partition: int
    offset: int
    at: datetime | None
    key: Content
    headers: list[tuple[str, Content]]
    value: Content


def show(data: bytes | None, *, pretty: bool = False) -> Content:
    """Make bytes readable. ``pretty``: indent what is JSON."""
    if data is None:
        return Content("null")
    if not data:
        return Content("empty")
    if (text := _readable(data)) is None:
        return Content("hex", data[:_MOST_HEX].hex(" "), max(len(data) - _MOST_HEX, 0))
    if len(data) > _MOST:
        shown = data[:_MOST].decode(errors="ignore")
        return Content("text", shown, len(data) - len(shown.encode()))
    indented = _indented(text) if pretty else None
    return Content("text", text) if indented is None else Content("json", indented)


def show_record(topic: str, record: Record) -> ShownRecord:
    """Make a record readable."""
    return ShownRecord(
        topic,
        record.partition,
        record.offset,
        _time(record.timestamp),
        show(record.key),
        [(name, show(value)) for name, value in record.headers],
        show(record.value, pretty=True),
    )


def _time(milliseconds: int) -> datetime | None:
    try:
        return None if milliseconds < 0 else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError):
        return None


def _readable(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if all(each in _WHITE or each >= " " for each in text) else None


def _indented(text: str) -> str | None:
    """Return JSON with indentation; None for what is no JSON, and where reading it would change what it says."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text, object_pairs_hook=_exact_object, parse_float=_exact_float)
        indented = json.dumps(value, indent=2, ensure_ascii=False)
        indented.encode()
    except (ValueError, RecursionError):
        return None
    return indented


def _exact_object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("A name stands there twice.")
    return members


def _exact_float(text: str) -> float:
    value = float(text)
    if repr(value) != text:
        raise ValueError("It would be written differently.")
    return value
