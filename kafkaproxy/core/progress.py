"""The progress codec: partition → offset, encoded as the reference does in ETags and event ids.

Bytes: version ``0x01``, then the number of pairs, then partition and offset of each pair, all as zigzag LEB128 varints; text:
base64url with padding. Examples: ``{0: 2, 1: 1}`` is ``AQQABAIC``, ``{}`` is ``AQA=``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["BadProgress", "Encoder", "decode", "encode"]

_VERSION: Final = 1
_ALPHABET: Final = re.compile(rb"[A-Za-z0-9_-]*={0,2}")
_MAX_VARINT: Final = 10


class BadProgress(ValueError):
    """The text is not a valid progress of version 1."""


def encode(progress: Mapping[int, int]) -> str:
    """Encode partition → offset, in ascending partition order."""
    out = bytearray((_VERSION,))
    _write(out, len(progress))
    for partition in sorted(progress):
        _write(out, partition)
        _write(out, progress[partition])
    return base64.urlsafe_b64encode(out).decode()


class Encoder:
    """Encodes a progress that changes one partition at a time, without encoding the others again."""

    def __init__(self, progress: Mapping[int, int]) -> None:
        self._pairs: dict[int, bytes] = {}
        for partition in sorted(progress):
            self.set(partition, progress[partition])

    def set(self, partition: int, offset: int) -> None:
        """Set the offset of one partition."""
        out = bytearray()
        _write(out, partition)
        _write(out, offset)
        new = partition not in self._pairs
        self._pairs[partition] = bytes(out)
        if new:
            self._pairs = dict(sorted(self._pairs.items()))

    def copy(self) -> Encoder:
        """Return a copy that can change independently."""
        copy = Encoder({})
        copy._pairs = self._pairs.copy()
        return copy

    def text(self) -> str:
        """Return what :func:`encode` returns for the present progress."""
        out = bytearray((_VERSION,))
        _write(out, len(self._pairs))
        return base64.urlsafe_b64encode(out + b"".join(self._pairs.values())).decode()


def decode(text: str) -> dict[int, int]:
    """Return partition → offset; raise :class:`BadProgress` for text that :func:`encode` does not write."""
    raw = _from_base64(text)
    if not raw or raw[0] != _VERSION:
        raise BadProgress("Not a version 1 progress.")
    count, at = _read(raw, 1)
    progress: dict[int, int] = {}
    for _ in range(count):
        partition, at = _read(raw, at)
        progress[partition], at = _read(raw, at)
    if count < 0 or at != len(raw) or len(progress) != count:
        raise BadProgress("The pairs do not add up.")
    return progress


def _from_base64(text: str) -> bytes:
    try:
        data = text.encode("ascii")
        if len(data) % 4 or not _ALPHABET.fullmatch(data):
            raise BadProgress("Not padded base64url.")
        return base64.urlsafe_b64decode(data)
    except (UnicodeEncodeError, binascii.Error):
        raise BadProgress("Not padded base64url.") from None


def _write(out: bytearray, value: int) -> None:
    zigzag = value << 1 if value >= 0 else (-value << 1) - 1
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)


def _read(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(at, min(at + _MAX_VARINT, len(raw))):
        byte = raw[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), index + 1
        shift += 7
    raise BadProgress("A number is cut off or too long.")
