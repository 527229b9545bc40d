"""Topic interest: which topics are read, and for which roles. The configuration names some, requests name others."""

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
    """Return topic → roles, and remove the interest of requests in topics that have been idle for too long.

    For the coordinator's thread. A topic that the configuration does not name is left out if ``MAX_TOPICS`` are read already.
    """
    interest = {
        name: each.roles or frozenset({Role.FETCH}) for name, each in configured.items() if each.roles or each.bootstrap
    }
    requested = store.interest()
    now = time.time()
    idle = [name for name, each in requested.items() if each["used"] < now - _idle_seconds(each["roles"], limits)]
    if idle:
        writer.remove_interest(idle)
    for name, each in requested.items():
        # The configuration's topics are always read; only the topics that requests name are bounded.
        if name in idle or (name not in interest and len(interest) >= limits.max_topics):
            continue
        interest[name] = interest.get(name, frozenset()) | {Role(role) for role in each["roles"]}
    return interest


def _idle_seconds(roles: Collection[str], limits: Limits) -> float:
    """Return for how many seconds a topic is read after its last use.

    A request that waits for a reply has counted as a use only at its start, so its longest wait is added.
    """
    return limits.topic_idle + (limits.max_wait if Role.REPLY in roles else 0)
