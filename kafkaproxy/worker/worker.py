"""The worker: every cluster of the configuration, in this process. Request handlers use Kafka only through it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Final

from kafkaproxy.worker.cluster import ClusterWorker
from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.types import ClusterConfig

__all__ = ["Worker"]

log = logging.getLogger("kafkaproxy.worker")

_LEEWAY_SECONDS: Final = 0.2


class Worker:
    """The :class:`ClusterWorker` of each cluster. It is started when the cluster is first configured."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting = 0
        """How many requests wait for a reply or a change at present."""
        self.timeouts: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = {}
        """The time-outs of waiting requests, each with its event loop, so that a stop can shorten them."""
        self.longest_wait = math.inf
        """The longest wait of a request from now on, in seconds."""
        self._clusters: dict[str, ClusterWorker] = {}
        self._errors: dict[str, str] = {}
        self._retiring: dict[ClusterWorker, threading.Thread] = {}
        self._lock = threading.Lock()
        self._closed = False

    def configure(self, clusters: Mapping[str, ClusterConfig]) -> None:
        """Apply a configuration: start, keep, restart or retire clusters. It opens no connection itself."""
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
        """Return a cluster's worker; raise :class:`TopicUnavailable` with ``MISCONFIGURED`` if it could not be configured."""
        cluster = self._clusters.get(name)
        if cluster is None:
            raise TopicUnavailable(Unavailable.MISCONFIGURED, self._errors.get(name, f"No cluster {name!r}."))
        return cluster

    def users(self, name: str) -> set[object]:
        """Return the set of requests that use a cluster's present worker. The worker is not closed while a request is in it."""
        cluster = self._clusters.get(name)
        return set() if cluster is None else cluster.users

    def clusters(self) -> Mapping[str, ClusterWorker]:
        """Return cluster name → worker."""
        return dict(self._clusters)

    def shorten_waits(self, seconds: float) -> None:
        """Let no request wait longer than ``seconds`` from now on, because the process stops. From any thread."""
        self.longest_wait = seconds
        for timeout, loop in tuple(self.timeouts.items()):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._shorten, timeout, loop.time() + seconds)
        for cluster in (*self._clusters.values(), *self._retiring):
            cluster.shorten_waits(seconds)

    def _shorten(self, timeout: asyncio.Timeout, latest: float) -> None:
        when = timeout.when()
        if timeout in self.timeouts and not timeout.expired() and when is not None:
            timeout.reschedule(min(when, latest))

    def close(self, stop_by: float | None = None) -> None:
        """Stop every cluster; records that were handed to a producer are flushed first.

        ``stop_by``: when that has to be done, by the monotonic clock; by default ``STOP_SECONDS`` from now.
        """
        stop_by = time.monotonic() + self.limits.stop if stop_by is None else stop_by
        with self._lock:
            self._closed = True
            for cluster in self._retiring:
                cluster.finish_retiring(stop_by)
            closing = [threading.Thread(target=each.close, args=(stop_by,), daemon=True) for each in self._clusters.values()]
            for thread in closing:
                thread.start()
            for thread in (*closing, *self._retiring.values()):
                thread.join(max(stop_by - time.monotonic(), 0) + _LEEWAY_SECONDS)
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
            # A cluster that cannot be used must not keep the others, or the site, from being served.
            log.exception("cluster_unusable cluster=%s", name)
            self._errors[name] = f"{type(error).__name__}: {error}"
            return
        log.info("cluster_started cluster=%s pid=%s", name, os.getpid())
        cluster.start()
        self._clusters[name] = cluster
        if running is not None:
            self._retire(name, running)

    def _retire(self, name: str, cluster: ClusterWorker) -> None:
        """Let the requests in progress finish on the old connections; new requests already use the successor."""
        self._retiring = {each: thread for each, thread in self._retiring.items() if thread.is_alive()}
        thread = threading.Thread(target=cluster.retire, name=f"kafkaproxy-retire-{name}", daemon=True)
        self._retiring[cluster] = thread
        thread.start()
