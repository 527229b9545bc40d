"""The layout of records and keys in the store. Integers are big-endian, so that keys sort by position."""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from kafkaproxy.worker.types import Headers, Record

__all__ = ["decode_header", "decode_key", "decode_record", "encode_record", "index_key", "position_key"]

ID_BYTES: Final = 16
"""The length of a topic id, Kafka's UUID."""

_RECORD: Final = struct.Struct(">qiiI")
_HEADER: Final = struct.Struct(">Ii")
_POSITION: Final = struct.Struct(">IQ")
_INDEX: Final = struct.Struct(">BH")
PARTITION: Final = struct.Struct(">I")
# LMDB's longest key is 511 bytes. A text that does not fit next to the topic id and the partition is replaced by its digest.
_LONGEST: Final = 400


def encode_record(timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> bytes:
    """Encode a record; its partition and offset are in its key."""
    parts = [_RECORD.pack(timestamp, -1 if key is None else len(key), -1 if value is None else len(value), len(headers))]
    for name, content in headers:
        raw = name.encode()
        parts += (_HEADER.pack(len(raw), -1 if content is None else len(content)), raw, content or b"")
    parts += (key or b"", value or b"")
    return b"".join(parts)


def decode_record(partition: int, offset: int, data: bytes | memoryview) -> Record:
    """Decode what :func:`encode_record` wrote."""
    data = bytes(data)
    timestamp, key_length, value_length, count = _RECORD.unpack_from(data)
    headers, at = _headers(data, count)
    key = None if key_length < 0 else data[at : at + key_length]
    at += max(key_length, 0)
    value = None if value_length < 0 else data[at : at + value_length]
    return Record(partition, offset, timestamp, key, value, headers)


def _headers(data: bytes, count: int) -> tuple[Headers, int]:
    at = _RECORD.size
    headers = []
    for _ in range(count):
        name_length, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        name = data[at : at + name_length].decode(errors="surrogateescape")
        at += name_length
        headers.append((name, None if length < 0 else data[at : at + length]))
        at += max(length, 0)
    return tuple(headers), at


def decode_key(data: bytes | memoryview) -> tuple[bytes | None, int]:
    """Return the key and the timestamp of an encoded record, without decoding the rest."""
    timestamp, length, _, count = _RECORD.unpack_from(data)
    if length < 0:
        return None, timestamp
    at = _RECORD.size
    for _ in range(count):
        name_length, value_length = _HEADER.unpack_from(data, at)
        at += _HEADER.size + name_length + max(value_length, 0)
    return bytes(data[at : at + length]), timestamp


def decode_header(headers: Headers, name: str) -> bytes | None:
    """Return the first header of that name; None if it is missing or null."""
    return next((value for each, value in headers if each == name), None)


def position_key(topic_id: bytes, partition: int, offset: int) -> bytes:
    """Return the key of a record in the database ``records``."""
    return topic_id + _POSITION.pack(partition, offset)


def position(key: bytes | memoryview) -> tuple[int, int]:
    """Return partition and offset from a key of the database ``records``."""
    partition, offset = _POSITION.unpack_from(key, ID_BYTES)
    return partition, offset


def index_key(topic_id: bytes, text: bytes) -> bytes:
    """Return the key prefix of ``text`` (a record key, a correlation id) in an index of the topic."""
    if len(text) <= _LONGEST:
        return topic_id + _INDEX.pack(0, len(text)) + text
    return topic_id + _INDEX.pack(1, 32) + hashlib.blake2b(text, digest_size=32).digest()
