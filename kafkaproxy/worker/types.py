"""The plain values that cross the worker's boundary: no Django, no ORM, no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = ["EMBEDDED", "Acks", "ClusterConfig", "Delivery", "Headers", "Record", "Role", "TopicSettings"]

EMBEDDED: Final = "embedded"
"""The bootstrap server that stands for librdkafka's in-process mock cluster."""

Headers = tuple[tuple[str, bytes | None], ...]
"""Record headers in order, duplicates included; a header value may be null."""


class Acks(StrEnum):
    """Which acknowledgement a produce waits for."""

    NONE = "none"
    LEADER_ONLY = "leader_only"
    IN_SYNC_REPLICAS = "in_sync_replicas"


class Role(StrEnum):
    """Why a topic is read; it decides what the store keeps of it."""

    FETCH = "fetch"
    """``latest`` is kept; of a compacted topic superseded records leave at once."""
    REPLY = "reply"
    """``replies`` is kept."""
    STREAM = "stream"
    """The log is kept, up to the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """How the worker reads one topic."""

    roles: frozenset[Role] = frozenset()
    bootstrap: bool = False
    live: bool = False
    """Start at the end of the log where the store holds nothing."""
    cleanup_policy: str | None = None
    """``compact`` or ``delete``; None asks the broker."""
    store_bytes: int | None = None
    """The budget of a streamed topic's log; None for the worker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """How to reach a cluster.

    ``client`` is librdkafka's own configuration, ``bootstrap.servers`` included, secrets resolved: never log it. ``error``
    says why it could not be resolved (an unset variable); such a cluster answers 503.
    """

    name: str
    client: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)
    correlation_headers: frozenset[str] = frozenset({"zilla:correlation-id"})
    """The reply headers that carry a correlation id, of every gateway that uses the cluster."""
    topics: Mapping[str, TopicSettings] = field(default_factory=dict)
    """The topics known from the configuration; templates with parameters add others as they are asked for."""
    error: str = ""

    @property
    def embedded(self) -> bool:
        """Whether the cluster is librdkafka's in-process mock."""
        return self.client.get("bootstrap.servers") == EMBEDDED


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where an acknowledged record is; ``offset`` is -1 where nothing was to be acknowledged (acks none)."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """A record as consumed. ``key`` and ``value`` may be null; ``timestamp`` is milliseconds since the epoch."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
