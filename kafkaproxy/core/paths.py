"""Path templates: ``/items/{id}``, ``/files/*``, ``/items/{id};cid={correlationId}``.

The grammar (the contract, *Matching*): literals, ``*`` for any run of characters, ``{name}`` for one or more
characters other than ``/``. A template is matched against the raw (still percent-encoded) path without its query string;
parameter values are percent-decoded after matching.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import quote, unquote_to_bytes

__all__ = ["BadPath", "Glob", "Param", "PathTemplate", "TemplateError", "decode_params", "quote_literal"]

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN: Final = re.compile(r"\*|\{([^{}]*)\}|[{}]")
# Characters that a raw path may contain: RFC 3986 pchar, "/", and "%" of an escape that is already there.
_RAW_SAFE: Final = "/%:@!$&'()*+,;=-._~"
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class TemplateError(ValueError):
    """The template is malformed; the message says where and what to write instead."""


class BadPath(ValueError):
    """A parameter of the request path does not decode to UTF-8 text."""


@dataclass(frozen=True, slots=True)
class Param:
    """``{name}``: one or more characters other than ``/``."""

    name: str


@dataclass(frozen=True, slots=True)
class Glob:
    """``*``: any run of characters, ``/`` included, or none."""


@dataclass(frozen=True)
class PathTemplate:
    """A parsed path template.

    ``parts`` alternates literals (``str``, as they stand in a raw path) with :class:`Param` and :class:`Glob`.
    """

    text: str
    parts: tuple[str | Param | Glob, ...]

    @classmethod
    def parse(cls, text: str) -> PathTemplate:
        """Parse ``text``; raise :class:`TemplateError` for unbalanced braces, bad names and names used twice."""
        parts: list[str | Param | Glob] = []
        names: set[str] = set()
        end = 0
        for token in _TOKEN.finditer(text):
            _add_literal(parts, text[end : token.start()])
            end = token.end()
            if token[0] == "*":
                if not (parts and isinstance(parts[-1], Glob)):  # "**" means no more than "*"
                    parts.append(Glob())
                continue
            parts.append(_parse_param(text, token, names))
        _add_literal(parts, text[end:])
        return cls(text, tuple(parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameter names, in order."""
        return tuple(part.name for part in self.parts if isinstance(part, Param))

    @cached_property
    def is_literal(self) -> bool:
        """True if the template matches exactly one path."""
        return all(isinstance(part, str) for part in self.parts)

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The template as a regular expression for :meth:`re.Pattern.fullmatch`."""
        following = (*self.parts[1:], "/")
        return re.compile("".join(map(_part_regex, self.parts, following)), re.DOTALL)

    @cached_property
    def segments(self) -> list[list[str | Param]] | None:
        """The parts by segment, if a segment has several parameters; None otherwise, and for a template with a glob.

        A regular expression would try every way to divide such a segment between its parameters, which takes seconds for a path
        that was made for that.
        """
        segments: list[list[str | Param]] = [[]]
        for part in self.parts:
            match part:
                case Glob():
                    return None
                case Param():
                    segments[-1].append(part)
                case _:
                    first, *others = part.split("/")
                    segments[-1] += [first] if first else []
                    segments += [[text] if text else [] for text in others]
        several = any(sum(isinstance(part, Param) for part in segment) > 1 for segment in segments)
        return segments if several else None

    def match(self, path: str) -> dict[str, str] | None:
        """Match a raw path; return its raw parameter values, or None. Earlier parameters take as much as they can."""
        if self.segments is not None:
            return _match_segments(self.segments, path)
        found = self.regex.fullmatch(path)
        return None if found is None else found.groupdict()


def decode_params(raw: Mapping[str, str]) -> dict[str, str]:
    """Return percent-decoded parameter values; raise :class:`BadPath` for bytes that are not UTF-8.

    With replacement characters instead, the request would write to, or read, a key that the client did not name.
    """
    decoded: dict[str, str] = {}
    for name, value in raw.items():
        if "%" not in value:
            decoded[name] = value
            continue
        try:
            decoded[name] = unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise BadPath(f"The path parameter {name!r} does not percent-decode to UTF-8 text.") from None
    return decoded


def quote_literal(literal: str) -> str:
    """Percent-encode the characters that a raw path cannot contain; existing escapes stay."""
    return quote(_LONE_PERCENT.sub("%25", literal), safe=_RAW_SAFE)


def _add_literal(parts: list[str | Param | Glob], literal: str) -> None:
    if literal:
        parts.append(quote_literal(literal))


def _parse_param(text: str, token: re.Match[str], names: set[str]) -> Param:
    name = token[1]
    at = f"at position {token.start() + 1} of {text!r}"
    if name is None:
        raise TemplateError(f"Unbalanced {token[0]!r} {at}: write a parameter as {{name}}.")
    if not NAME.fullmatch(name):
        raise TemplateError(f"{name!r} {at} is not a parameter name: use letters, digits and '_', not a digit first.")
    if name in names:
        raise TemplateError(f"The parameter {{{name}}} stands twice in {text!r}: give each its own name.")
    names.add(name)
    return Param(name)


def _match_segments(segments: list[list[str | Param]], path: str) -> dict[str, str] | None:
    texts = path.split("/")
    values: dict[str, str] = {}
    if len(texts) != len(segments) or not all(map(_match_segment, segments, texts, [values] * len(texts))):
        return None
    return values


def _match_segment(parts: list[str | Param], text: str, values: dict[str, str]) -> bool:
    """Match a segment from its right end in one pass, each parameter as short as possible: earlier ones get the most."""
    end = len(text)
    param: Param | None = None
    for place, part in reversed(tuple(enumerate(parts))):
        literal = "" if isinstance(part, Param) else part  # between neighbours is an empty literal
        if param is not None:
            anchored = literal and place == 0
            at = text.find(literal, 0, len(literal)) if anchored else text.rfind(literal, 0, max(end - 1, 0))
            if at < 0 or at + len(literal) >= end:
                return False
            values[param.name], end = text[at + len(literal) : end], at
        elif literal:
            if not text.endswith(literal, 0, end):
                return False
            end -= len(literal)
        param = part if isinstance(part, Param) else None
    if param is not None:
        values[param.name] = text[:end]
    return (end > 0) is (param is not None)


def _part_regex(part: str | Param | Glob, following: str | Param | Glob) -> str:
    match part:
        case Param(name):
            # Nothing before the end of its segment can be given back: possessive, so that no path makes it backtrack.
            possessive = "+" if isinstance(following, str) and following.startswith("/") else ""
            return f"(?P<{name}>[^/]+{possessive})"
        case Glob():
            return ".*"
        case _:
            return re.escape(part)
