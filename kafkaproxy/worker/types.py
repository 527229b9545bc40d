"""The values that cross the worker's boundary: plain frozen dataclasses without Django, the ORM or HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = ["EMBEDDED", "Acks", "ClusterConfig", "Delivery", "Headers", "Record", "Role", "TopicSettings"]

EMBEDDED: Final = "embedded"
"""The value of ``bootstrap.servers`` that selects librdkafka's in-process mock cluster."""

Headers = tuple[tuple[str, bytes | None], ...]
"""Record headers in order, duplicates included; a header value may be null."""


class Acks(StrEnum):
    """Which acknowledgement a produced record waits for."""

    NONE = "none"
    LEADER_ONLY = "leader_only"
    IN_SYNC_REPLICAS = "in_sync_replicas"


class Role(StrEnum):
    """What a topic is read for. It decides what the store keeps of it."""

    FETCH = "fetch"
    """The index of the newest record per key is kept; of a topic that is compacted, superseded records are removed at once."""
    REPLY = "reply"
    """The index of replies by correlation id is kept."""
    STREAM = "stream"
    """The log is kept, up to the topic's quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """How the worker reads one topic."""

    roles: frozenset[Role] = frozenset()
    bootstrap: bool = False
    live: bool = False
    """If the store holds nothing of the topic, start reading at its end."""
    cleanup_policy: str | None = None
    """``compact``, ``delete`` or both; None takes what the broker says."""
    store_bytes: int | None = None
    """The quota of a streamed topic's log in bytes; None takes the worker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """How to reach a cluster.

    ``client`` is librdkafka's own configuration, ``bootstrap.servers`` included, with secrets resolved: never log it. ``error``
    says why it could not be resolved, for instance an unset environment variable; requests for such a cluster are answered 503.
    """

    name: str
    client: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)
    correlation_headers: frozenset[str] = frozenset({"zilla:correlation-id"})
    """The reply headers that carry a correlation id, of every gateway that uses the cluster."""
    topics: Mapping[str, TopicSettings] = field(default_factory=dict)
    """Topic → settings, for the topics that the configuration names. Templates with parameters add others when requests name
    them."""
    error: str = ""

    @property
    def embedded(self) -> bool:
        """True if the cluster is librdkafka's in-process mock."""
        return self.client.get("bootstrap.servers") == EMBEDDED


@dataclass(frozen=True, slots=True)
class Delivery:
    """The position of an acknowledged record; ``offset`` is -1 if no acknowledgement was asked for (``Acks.NONE``)."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """A consumed record. ``key`` and ``value`` may be null; ``timestamp`` is in milliseconds since the epoch."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
