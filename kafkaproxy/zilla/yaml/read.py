"""From a file to trees, safely: size, depth, aliases and duplicate keys are checked before anything is built.

YAML 1.2, read as events. Tags, classes and merge keys are never interpreted. ``${{env.NAME}}`` is taken out before the
YAML is read and put back after, because the reference fills it in before *its* reader runs: ``[${{env.A}}]`` is valid there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django.utils.translation import gettext as _
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "ReadError", "read_file", "read_text"]

MAX_BYTES: Final = 1024 * 1024
"""The largest file: many times any hand-written configuration, and still read in seconds."""
MAX_DEPTH: Final = 40
MAX_NODES: Final = 100_000
"""The most values of a file, each alias counted as all that it stands for."""

_EXPRESSION: Final = re.compile(r"\$\{\{[^{}\n]*\}\}")
_MASK: Final = re.compile("\ue000([0-9]+)\ue001")
_KEPT_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")


class ReadError(ValueError):
    """The text is not YAML that can be read here; ``line`` counts from 1, 0 is the file as a whole."""

    def __init__(self, line: int, message: str, advice: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.advice = advice


def read_file(path: Path) -> str:
    """Return the text of a file; raise :class:`ReadError` for one that is missing, too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ReadError(
            0, _("The file cannot be read: %(strerror)s.") % {"strerror": error.strerror}, _("Check its name and permissions.")
        ) from error
    if len(data) > MAX_BYTES:
        raise _too_large()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ReadError(line, _("The text is not UTF-8."), _("Save the file as UTF-8.")) from error


def read_text(text: str, first_line: int = 1) -> list[Node]:
    """Return the trees of the documents in ``text``; raise :class:`ReadError` for the first thing that is wrong."""
    if len(text) > MAX_BYTES:
        raise _too_large()
    expressions: list[str] = []

    def mask(found: re.Match[str]) -> str:
        expressions.append(found[0])
        return f"\ue000{len(expressions) - 1}\ue001"

    builder = _Builder(expressions, first_line)
    for event in _events(_EXPRESSION.sub(mask, text), first_line):
        builder.take(event)
    return [root for root in builder.roots if not (isinstance(root, Leaf) and root.is_null)]


def _too_large() -> ReadError:
    return ReadError(
        0,
        _("The file is larger than %(size)s KiB.") % {"size": MAX_BYTES // 1024},
        _("Import the part that holds the bindings, in smaller files."),
    )


def _events(text: str, first_line: int) -> Iterator[Any]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        raise _syntax_error(text, error, first_line) from error
    except YAMLError as error:  # the reader's own, for characters that YAML does not allow
        line = text.count("\n", 0, getattr(error, "position", 0)) + first_line
        raise ReadError(line, _("A character that YAML does not allow."), _("Remove control characters.")) from error


def _syntax_error(text: str, error: MarkedYAMLError, first_line: int) -> ReadError:
    index = error.problem_mark.line if error.problem_mark is not None else 0
    lines = text.splitlines()
    if "\\t" in (error.problem or "") and index < len(lines) and "\t" in lines[index]:
        return ReadError(
            index + first_line, _("A tab where YAML wants spaces."), _("Indent with spaces; tabs belong in quotes.")
        )
    problem = " ".join(part for part in (error.context, error.problem) if part)
    return ReadError(
        index + first_line,
        _("This is not YAML: %(problem)s.") % {"problem": problem},
        _("Check the indentation and the quotes here."),
    )


@dataclass(slots=True)
class _Frame:
    """A list or mapping under construction."""

    line: int
    anchor: str | None
    is_map: bool
    nodes: list[Node] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    size: int = 1
    height: int = 1


class _Builder:
    """Builds trees from events. Size and height count what an alias would expand to, without ever expanding it."""

    def __init__(self, expressions: list[str], first_line: int) -> None:
        self.roots: list[Node] = []
        self._expressions = expressions
        self._first_line = first_line
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int, int]] = {}
        self._now = first_line

    def take(self, event: Any) -> None:
        """Take the next event."""
        self._now = self._line(event)
        match event:
            case DocumentStartEvent():
                self._anchors.clear()
            case SequenceStartEvent() | MappingStartEvent():
                self._open(event)
            case SequenceEndEvent() | MappingEndEvent():
                self._close()
            case ScalarEvent():
                self._check_tag(event)
                self._put(self._leaf(event), 1, 1, event.anchor)
            case AliasEvent():
                self._put(*self._alias(event), None)

    def _line(self, event: Any) -> int:
        return int(event.start_mark.line) + self._first_line

    def _open(self, event: Any) -> None:
        self._check_tag(event)
        self._check_depth(self._line(event), 1)
        self._frames.append(_Frame(self._line(event), event.anchor, isinstance(event, MappingStartEvent)))

    def _close(self) -> None:
        frame = self._frames.pop()
        node: Node
        if frame.is_map:
            keys = [key for key in frame.nodes[0::2] if isinstance(key, Leaf)]
            node = Branch(tuple(zip(keys, frame.nodes[1::2], strict=True)), frame.line)
        else:
            node = Row(tuple(frame.nodes), frame.line)
        self._put(node, frame.size, frame.height, frame.anchor)

    def _check_depth(self, line: int, height: int) -> None:
        if len(self._frames) + height > MAX_DEPTH:
            raise ReadError(
                line,
                _("Nested deeper than %(most)s levels.") % {"most": MAX_DEPTH},
                _("No configuration needs that."),
            )

    def _put(self, node: Node, size: int, height: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size, height)
        if not self._frames:
            self.roots.append(node)
            return
        frame = self._frames[-1]
        if frame.is_map and len(frame.nodes) % 2 == 0:
            self._check_key(frame, node)
        frame.nodes.append(node)
        frame.size += size
        frame.height = max(frame.height, height + 1)
        if frame.size > MAX_NODES:
            raise ReadError(
                self._now,
                _("More than %(most)s values.") % {"most": MAX_NODES},
                _("Write the values out instead of using aliases."),
            )

    def _check_key(self, frame: _Frame, key: Node) -> None:
        if not isinstance(key, Leaf) or key.is_null:
            raise ReadError(key.line, _("A key that is not a text."), _("Write a name before the ':'."))
        if key.text == "<<":
            raise ReadError(key.line, _("Merge keys (<<) are not part of YAML 1.2."), _("Write the values out."))
        if key.text in frame.keys:
            raise ReadError(
                key.line, _("%(key)r stands twice in this mapping.") % {"key": key.text}, _("Remove one of them, or rename it.")
            )
        frame.keys.add(key.text)

    def _check_tag(self, event: Any) -> None:
        tag = str(event.tag) if getattr(event, "tag", None) is not None else None
        if tag not in _KEPT_TAGS:
            raise ReadError(
                self._line(event), _("The YAML tag %(tag)s is not understood.") % {"tag": tag}, _("Remove the tag.")
            )

    def _leaf(self, event: Any) -> Leaf:
        text = _MASK.sub(self._unmask, event.value)
        if text.startswith("<!-- @include"):
            raise ReadError(
                self._line(event), _("What belongs here is in another file."), _("Put it here in place of the directive.")
            )
        return Leaf(text, self._line(event), plain=event.style is None, literal=event.style == "|")

    def _unmask(self, found: re.Match[str]) -> str:
        index = int(found[1])
        return self._expressions[index] if index < len(self._expressions) else found[0]

    def _alias(self, event: AliasEvent) -> tuple[Node, int, int]:
        found = self._anchors.get(event.anchor)
        if found is None:
            raise ReadError(
                self._line(event),
                _("The alias *%(anchor)s has no value yet, or contains itself.") % {"anchor": event.anchor},
                _("Write the value out."),
            )
        self._check_depth(self._line(event), found[2])
        return found
