"""The worker: every cluster of the configuration, in this process. What consumers talk to."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping

from kafkaproxy.worker.client import Limits
from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.types import ClusterConfig

__all__ = ["Worker"]

log = logging.getLogger("kafkaproxy.worker")


class Worker:
    """Holds a :class:`ClusterWorker` for each cluster, started when it is first configured."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting = 0
        """How many requests wait for a reply or a change."""
        self._clusters: dict[str, ClusterWorker] = {}
        self._errors: dict[str, str] = {}
        self._lock = threading.Lock()
        self._closed = False

    def configure(self, clusters: Mapping[str, ClusterConfig]) -> None:
        """Take over a configuration: start, keep, restart or stop clusters. Opens no connection by itself."""
        with self._lock:
            if self._closed:
                return
            for name in [name for name in self._clusters if name not in clusters]:
                self._stop(name)
            self._errors = {name: each.error for name, each in clusters.items() if each.error}
            for name, config in clusters.items():
                if not config.error:
                    self._configure_one(name, config)

    def cluster(self, name: str) -> ClusterWorker:
        """Return a cluster's worker; raise :class:`TopicUnavailable` where its configuration cannot be used."""
        cluster = self._clusters.get(name)
        if cluster is None:
            raise TopicUnavailable(Unavailable.MISCONFIGURED, self._errors.get(name, f"No cluster {name!r}."))
        return cluster

    def clusters(self) -> Mapping[str, ClusterWorker]:
        """Return every cluster's worker."""
        return dict(self._clusters)

    def close(self) -> None:
        """Stop everything; what was handed to a producer is flushed first."""
        with self._lock:
            self._closed = True
            for name in list(self._clusters):
                self._stop(name)

    def _configure_one(self, name: str, config: ClusterConfig) -> None:
        running = self._clusters.get(name)
        if running is not None:
            same = running.config.client == config.client
            if same and running.config.correlation_headers == config.correlation_headers:
                running.configure(config)
                return
            # Another address or credential: requests that are under way finish on the old connections.
            threading.Thread(target=self._clusters.pop(name).close, name=f"kafkaproxy-close-{name}").start()
        log.info("cluster_started cluster=%s pid=%s", name, os.getpid())
        cluster = ClusterWorker(config, self.limits)
        cluster.start()
        self._clusters[name] = cluster

    def _stop(self, name: str) -> None:
        self._clusters.pop(name).close()
