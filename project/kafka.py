"""What the responder and the page's tail share. It knows nothing of Django or kafkaproxy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from confluent_kafka import Consumer, Message

__all__ = ["FETCH_WAIT_MS", "headers_of", "partitions_of", "text"]

FETCH_WAIT_MS: Final = 50
"""The embedded broker lets a fetch wait for its whole time though records arrive; a real one needs no setting."""


def partitions_of(consumer: Consumer, topics: Iterable[str]) -> dict[str, list[int]]:
    """Return the partitions of the topics that exist; asking makes the embedded broker create the others."""
    found = {}
    for topic in topics:
        partitions = consumer.list_topics(topic, timeout=5).topics[topic].partitions
        if partitions:
            found[topic] = sorted(partitions)
    return found


def headers_of(message: Message) -> list[tuple[str, str | bytes | None]]:
    """Return a record's headers in their order."""
    return [(name, value) for name, value in cast("Iterable[Any]", message.headers() or ())]


def text(value: str | bytes | None) -> str | None:
    """Return what came from Kafka as text, whatever it is; null stays None."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
