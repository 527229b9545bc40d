"""Tests if a value is JSON (RFC 8259), in UTF-8, as JSON that is exchanged between systems has to be."""

from __future__ import annotations

import json
from typing import NoReturn

__all__ = ["is_json"]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


# Numbers are kept as text: only their form matters, and Python's limit on digits must not apply.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)


def is_json(value: bytes) -> bool:
    """Return True if ``value`` is one JSON text. What only Python accepts (NaN, UTF-16, a BOM) is not JSON."""
    try:
        _DECODER.decode(value.decode())
    except (ValueError, RecursionError):
        return False
    return True
