"""Retention, as the writer applies it."""

from __future__ import annotations

from kafkaproxy.worker.store.reader import TopicState
from kafkaproxy.worker.store.writer import StoreWriter


def trim(writer: StoreWriter, state: TopicState, partition: int, log_start: int) -> int:
    """Remove all records before a log start, step by step; return the number of steps."""
    steps = 1
    while not writer.trim_step(state, partition, log_start):
        steps += 1
    return steps
