"""A tree of plain values as YAML that means the same in YAML 1.1, which Zilla reads, and 1.2, which this package reads."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString

__all__ = ["to_yaml"]

_PLAIN: Final = re.compile(r"[A-Za-z/$][A-Za-z0-9_./${}*;=@-]*|:[a-z]+|[A-Za-z$][A-Za-z0-9_.${}-]*:[0-9]{1,5}")
"""Texts that need no quotes: names, paths, templates, ``:path``, ``host:port``."""
_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
"""Words that YAML 1.1 or 1.2 takes for something else than a text."""
_ONE_LINE: Final = re.compile(r"[\x20-\x7e]*")
_WIDEST: Final = 1_000_000


def to_yaml(tree: Any, comments: Iterable[str] = ()) -> str:
    """Return the text of a tree of mappings, lists and scalars, with comments above it."""
    yaml = YAML()
    yaml.width = _WIDEST
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.allow_unicode = False
    out = io.StringIO()
    yaml.dump(_node(tree), out)
    return "".join(f"{_comment(line)}\n" for line in comments) + out.getvalue()


def _comment(line: str) -> str:
    shown = "".join(each if each.isprintable() else "?" for each in line)
    return f"# {shown}"


def _node(value: Any) -> Any:
    match value:
        case dict():
            return CommentedMap((_text(str(key)), _node(each)) for key, each in value.items())
        case list() | tuple():
            return CommentedSeq(_node(each) for each in value)
        case str():
            return _text(value)
        case _:
            return value


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted: str = SingleQuotedScalarString(text) if _ONE_LINE.fullmatch(text) else DoubleQuotedScalarString(text)
    return quoted
