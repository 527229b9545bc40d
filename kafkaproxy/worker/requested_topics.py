"""Topics that only requests name (a topic template with a parameter): telling the writer that they are in use."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.store.background_writes import BackgroundWrites
from kafkaproxy.worker.store.reader import Store
from kafkaproxy.worker.types import Role

__all__ = ["RequestedTopics"]

_RENEW_SECONDS: Final = 60.0


class RequestedTopics:
    """Writes this process's topic interest to the store, for each topic and role about once a minute."""

    def __init__(self, writes: BackgroundWrites, limits: Limits) -> None:
        self._writes = writes
        self._limits = limits
        self._written: dict[tuple[str, Role], float] = {}
        """Topic and role → when the interest was last written, in seconds since the epoch."""

    def renew(self, name: str, role: Role) -> None:
        """Write, if it is due, that a topic is still used. Does not wait for the write."""
        now = time.time()
        if self._is_due(name, role, now):
            self._written[name, role] = now
            self._writes.submit(lambda store: store.add_interest(name, frozenset({role}), now))

    async def register(self, name: str, role: Role, store: Store) -> bool:
        """Write, if it is due, that a request needs a topic, and wait for the write; return True if it was due.

        Raise :class:`TopicUnavailable` with ``TOO_MANY_TOPICS`` if the store follows as many topics as it may.
        """
        now = time.time()
        if not self._is_due(name, role, now):
            return False
        if (name, role) not in self._written and len(store.interest()) >= self._limits.max_topics:
            raise TopicUnavailable(Unavailable.TOO_MANY_TOPICS)
        await asyncio.wrap_future(self._writes.submit(lambda store: store.add_interest(name, frozenset({role}), now)))
        if len(self._written) > 4 * self._limits.max_topics:  # clients choose the names: bound the memory
            self._written.clear()
        self._written[name, role] = now
        return True

    def clear(self) -> None:
        """Forget what was written: another generation of the store does not hold it."""
        self._written.clear()

    def _is_due(self, name: str, role: Role, now: float) -> bool:
        return now - self._written.get((name, role), 0) >= min(_RENEW_SECONDS, self._limits.topic_idle / 3)
