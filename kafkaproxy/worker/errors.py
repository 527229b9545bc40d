"""The worker's errors.

::

    WorkerError
    ├── ProduceError      a record was not acknowledged; ``reason`` says why
    └── TopicUnavailable  a topic cannot be read (yet); ``reason`` says why
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ProduceError", "ProduceFailure", "TopicUnavailable", "Unavailable", "WorkerError"]


class WorkerError(Exception):
    """Kafka, or this host's copy of its topics, could not do what was asked."""


class ProduceFailure(StrEnum):
    """Why a record was not acknowledged."""

    TOO_LARGE = "too_large"
    REJECTED = "rejected"
    UNKNOWN_TOPIC = "unknown_topic"
    UNREACHABLE = "unreachable"
    QUEUE_FULL = "queue_full"
    NOT_AUTHORIZED = "not_authorized"
    TIMED_OUT = "timed_out"


class ProduceError(WorkerError):
    """A record was not acknowledged as requested. ``detail`` is for logs, never for clients."""

    def __init__(self, reason: ProduceFailure, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unavailable(StrEnum):
    """Why a topic cannot be read."""

    NOT_READ_YET = "not_read_yet"
    UNKNOWN_TOPIC = "unknown_topic"
    NOT_AUTHORIZED = "not_authorized"
    UNREACHABLE = "unreachable"
    TOO_MANY_TOPICS = "too_many_topics"
    STORE_FULL = "store_full"
    MISCONFIGURED = "misconfigured"


class TopicUnavailable(WorkerError):
    """A topic cannot be read, or has not been read to its end yet."""

    def __init__(self, reason: Unavailable, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
