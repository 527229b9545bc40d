"""Operations, whichever kind of specification they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kafkaproxy.zilla.tree import Branch, Leaf

if TYPE_CHECKING:
    from kafkaproxy.zilla.expand.specification import Specification

__all__ = ["Alternative", "Requirement", "Source", "Target"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """A security scheme that an operation asks for, and the roles that it wants there."""

    scheme: Leaf
    roles: tuple[Leaf, ...]


Alternative = tuple[Requirement, ...]
"""Requirements that all have to hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An operation of the API that clients see."""

    specification: Specification
    name: str
    """Empty where the document gives none."""
    line: int
    method: Leaf
    path: Leaf
    is_stream: bool
    tags: frozenset[str]
    security: tuple[Alternative, ...]
    """One of them has to hold; none: it is open."""
    merges: bool
    """Whether a fetch answers with a list."""
    answers: tuple[tuple[Leaf, Leaf], ...]
    """Fields of an answer that comes later, with their templates: ``/items;cid={correlationId}``."""
    extension: Branch | None
    """What ``x-zilla-http-kafka`` says, or ``x-zilla-sse-kafka`` for a stream."""
    checks: tuple[int, ...]
    """The lines of the schemas that the reference checks requests, or events, against."""

    def __str__(self) -> str:
        shown = f"{self.method.text} {self.path.text}"
        return f"{self.name} ({shown})" if self.name else shown


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """An operation on Kafka."""

    specification: Specification
    name: str
    line: int
    sends: bool
    topic: Leaf
    tags: frozenset[str]
    reply_to: Leaf | None
    correlation: Leaf | None
    """The name of the record header that a correlation id is in."""
