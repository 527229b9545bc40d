"""Is it JSON? (RFC 8259, in UTF-8, as everything that leaves a system has to be.)"""

from __future__ import annotations

import json
from typing import NoReturn

__all__ = ["is_json"]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


# parse_int and parse_float as str: whether it is a number matters, its value (and Python's limit on digits) does not.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)


def is_json(value: bytes) -> bool:
    """Whether ``value`` is one JSON text. Python's leniency (NaN, UTF-16, a BOM) does not count."""
    try:
        _DECODER.decode(value.decode())
    except (ValueError, RecursionError):
        return False
    return True
