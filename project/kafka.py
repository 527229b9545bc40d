"""What the responder and the page's tail share. It knows nothing of Django or kafkaproxy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from confluent_kafka import Consumer

__all__ = ["FETCH_WAIT_MS", "partitions_of", "text"]

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


def text(value: str | bytes | None) -> str | None:
    """Return what came from Kafka as text, whatever it is; null stays None."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
