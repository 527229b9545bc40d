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
        self._retiring: dict[ClusterWorker, threading.Thread] = {}
        self._lock = threading.Lock()
        self._closed = False

    def configure(self, clusters: Mapping[str, ClusterConfig]) -> None:
        """Take over a configuration: start, keep, restart or stop clusters. Opens no connection by itself."""
        with self._lock:
            if self._closed:
                return
            for name in [name for name in self._clusters if name not in clusters]:
                self._retire(name, self._clusters.pop(name))
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

    def users(self, name: str) -> set[object]:
        """Return who uses the present worker of a cluster: while somebody is in there, it is not stopped."""
        cluster = self._clusters.get(name)
        return set() if cluster is None else cluster.users

    def clusters(self) -> Mapping[str, ClusterWorker]:
        """Return every cluster's worker."""
        return dict(self._clusters)

    def close(self) -> None:
        """Stop everything; what was handed to a producer is flushed first."""
        with self._lock:
            self._closed = True
            for cluster in self._retiring:
                cluster.hurry()
            for cluster in self._clusters.values():
                cluster.close()
            for thread in self._retiring.values():
                thread.join()
            self._clusters.clear()

    def _configure_one(self, name: str, config: ClusterConfig) -> None:
        running = self._clusters.get(name)
        if running is not None:
            same = running.config.client == config.client
            if same and running.config.correlation_headers == config.correlation_headers:
                running.configure(config)
                return
        try:
            cluster = ClusterWorker(config, self.limits)
        except Exception as error:
            # One cluster that cannot be used must not keep the others, or the site, from being served.
            log.exception("cluster_unusable cluster=%s", name)
            self._errors[name] = f"{type(error).__name__}: {error}"
            return
        log.info("cluster_started cluster=%s pid=%s", name, os.getpid())
        cluster.start()
        self._clusters[name] = cluster
        if running is not None:
            self._retire(name, running)

    def _retire(self, name: str, cluster: ClusterWorker) -> None:
        """Let requests that are under way finish on the old connections; new ones already begin elsewhere."""
        self._retiring = {each: thread for each, thread in self._retiring.items() if thread.is_alive()}
        thread = threading.Thread(target=cluster.retire, name=f"kafkaproxy-retire-{name}", daemon=True)
        self._retiring[cluster] = thread
        thread.start()
