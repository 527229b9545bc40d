"""Which topics are read, and what for: those of the configuration, and those that requests asked for lately."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.store.reader import Store
from kafkaproxy.worker.store.writer import StoreWriter
from kafkaproxy.worker.types import Role, TopicSettings

__all__ = ["topic_interest"]


def topic_interest(
    configured: Mapping[str, TopicSettings], store: Store, writer: StoreWriter, limits: Limits
) -> dict[str, frozenset[Role]]:
    """Return topic → roles; forget what requests asked for and nobody used since. For the writer's thread."""
    wanted = {name: each.roles or frozenset({Role.FETCH}) for name, each in configured.items() if each.roles or each.bootstrap}
    asked = store.interest()
    now = time.time()
    idle = [name for name, each in asked.items() if each["used"] < now - _patience(each["roles"], limits)]
    if idle:
        writer.forget_interest(idle)
    for name, each in asked.items():
        if name in idle or (name not in wanted and len(wanted) >= limits.max_topics):
            continue
        wanted[name] = wanted.get(name, frozenset()) | {Role(role) for role in each["roles"]}
    return wanted


def _patience(roles: Collection[str], limits: Limits) -> float:
    """Return how long a topic is followed after its last use; a request that waits for a reply has used it at its start."""
    return limits.topic_idle + (limits.max_wait if Role.REPLY in roles else 0)
