"""The states of topics as this process may serve them, and what invalidates cached responses."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from kafkaproxy.worker.errors import Unavailable
from kafkaproxy.worker.own_writes import OwnWrites
from kafkaproxy.worker.store.reader import Progress, Store, TopicState

__all__ = ["TopicStates"]


class TopicStates:
    """This process's copy of the topic states in the store. :meth:`refresh` may be called from any thread."""

    def __init__(self, servers: str, store: Store, own_writes: OwnWrites) -> None:
        self.known: Mapping[str, TopicState] = {}
        """Topic → state. It is replaced as a whole and never changed in place, so reading it needs no lock."""
        self.cache_generations: dict[str, object] = {}
        """Topic → an object that is replaced with every change of the topic. A cached response is valid while the object that
        it was read under is still here."""
        self._servers = servers
        self._store = store
        self._own_writes = own_writes
        self._version = b""
        self._cached_at: dict[str, tuple[TopicState, Mapping[int, Progress]] | None] = {}
        """Topic → state and progress when its generation was last checked."""
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> bool:
        """Read the states from the store if they changed; return True if they did."""
        # The lock keeps the order: without it a thread that read an older version could be the last to set it.
        with self._lock:
            version = self._store.topics_version()
            if version == self._version:
                return False
            self._version = version
            heartbeat = self._store.heartbeat()
            is_our_cluster = heartbeat is None or heartbeat.servers == self._servers
            states = self._store.topics()
            before = self.known
            self.known = {name: self._as_served(each, is_our_cluster=is_our_cluster) for name, each in states.items()}
            for name in list(self._own_writes.next_offsets):
                key = self.known[name].key if name in self.known else b""
                if name in before and before[name].key != key:  # the offsets are those of a log that no longer exists
                    self._own_writes.discard(name)
            return True

    def switch_store(self, store: Store) -> None:
        """Continue with another generation of the store. No topic is ready until :meth:`refresh` has read it there."""
        with self._lock:
            self._store = store
            self._version = b""
            self.known = {name: replace(state, ready=False) for name, state in self.known.items()}
        self.cache_generations.clear()

    def renew_cache_generations(self) -> None:
        """Drop the cache generation of every topic whose state or progress changed."""
        for name in list(self.cache_generations):
            state = self.known.get(name)
            now = (state, self._store.progress(state.key)) if state is not None else None
            if self._cached_at.get(name) != now:
                self._cached_at[name] = now
                self.cache_generations.pop(name, None)

    def _as_served(self, state: TopicState, *, is_our_cluster: bool) -> TopicState:
        """Return a topic as this process may serve it: not ready if the store was written from other bootstrap servers.

        A topic that a former writer called ready, and the present writer has yet to confirm, is ready here only if this process
        has served it before. It is then served on while Kafka does not answer, like every topic that is ready.
        """
        if not state.ready or (state.confirmed and is_our_cluster):
            return state
        known = self.known.get(state.name)
        if not (is_our_cluster and known is not None and known.ready and known.key == state.key):
            return replace(state, ready=False)
        return replace(state, error="") if state.error == Unavailable.UNREACHABLE else state
