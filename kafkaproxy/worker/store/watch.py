"""Checks if a store can be served: its writer is alive, its file is complete, and it is the current generation.

A frozen writer (stopped, or on a disk that stalls) holds its locks and does nothing. Its data is served for
``Limits.writer_timeout`` seconds after its last heartbeat. Then one of the processes that may write copies the store to another
generation (:mod:`kafkaproxy.worker.store.generations`). The frozen process notices that when it continues: its own
:class:`StoreWatch` has expired meanwhile.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from pathlib import Path
from typing import Final

import lmdb

from kafkaproxy.metrics import STORE_FRESH, STORE_TAKEOVERS
from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.store import generations
from kafkaproxy.worker.store.environment import copy_environment
from kafkaproxy.worker.store.reader import Heartbeat, Store
from kafkaproxy.worker.store.writer_lock import writer_pid

__all__ = ["StoreWatch"]

log = logging.getLogger("kafkaproxy.store")

_MAX_STEP_SECONDS: Final = 1.0
"""The most that one check adds to the time without a heartbeat. A process that was itself stopped for long must not count that
time against the writer."""
_REMOVE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5.0
_MIN_FREE_BYTES: Final = 64 << 20
"""With less free space on the disk a new store could hold next to nothing."""


class StoreWatch:
    """Watches one generation of a store for one process. :meth:`check` is for one thread, the rest for any."""

    def __init__(self, cluster: str, store: Store, limits: Limits) -> None:
        self._cluster = cluster
        self._store = store
        self._limits = limits
        self._heartbeat: Heartbeat | None = None
        self._fresh_until = 0.0
        """Until when the store may be served, by the monotonic clock. That clock goes on while this process is stopped."""
        self._silent_seconds = 0.0
        """For how many seconds no heartbeat came, as far as this process was running."""
        self._checked_at = time.monotonic()
        self._removed_at = 0.0
        self._was_fresh = False
        self._gauge = STORE_FRESH.cell(cluster)
        self._takeover: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def is_fresh(self) -> bool:
        """True if the writer's last heartbeat is recent enough, so that what the store holds may be served."""
        return time.monotonic() < self._fresh_until

    def check(self) -> bool:
        """Check the store; return True if it is still the generation to use. Call at least every half second."""
        try:
            is_usable = not self._store.is_torn()
            heartbeat = self._store.heartbeat() if is_usable else None
        except (lmdb.CorruptedError, lmdb.PageNotFoundError):
            is_usable = False
        # In this order: a writer that was frozen writes heartbeats again before it notices that it was replaced.
        if is_usable and self._store.is_current:
            self._apply_heartbeat(heartbeat)
            self._report_freshness()
            self._remove_unused()
            if self._limits.ingest and self._silent_seconds > self._limits.writer_timeout:
                self._start_takeover()
            return True
        # Either the file is torn or another generation is current: in both cases nothing may be read here any more.
        self._fresh_until = 0.0
        self._report_freshness()
        if not is_usable:
            log.error("store_torn cluster=%s path=%s: it is rebuilt from Kafka", self._cluster, self._store.path)
            generations.replace(self._store.home, self._store.path)
        return False

    def close(self) -> None:
        """Start no takeover from now on."""
        self._closed.set()

    def _apply_heartbeat(self, heartbeat: Heartbeat | None) -> None:
        now = time.monotonic()
        self._silent_seconds += min(now - self._checked_at, _MAX_STEP_SECONDS)
        self._checked_at = now
        if heartbeat is not None and heartbeat != self._heartbeat:
            self._heartbeat = heartbeat
            self._silent_seconds = 0.0
            # It may be old: this process may itself have been stopped before it read the heartbeat.
            self._fresh_until = now + self._limits.writer_timeout - max(time.time() - heartbeat.time, 0.0)

    def _report_freshness(self) -> None:
        is_fresh = self.is_fresh
        self._gauge.value = int(is_fresh)
        if is_fresh != self._was_fresh:
            self._was_fresh = is_fresh
            if is_fresh:
                log.info("store_fresh cluster=%s", self._cluster)
            else:
                log.warning("store_stale cluster=%s writer=%s: not served", self._cluster, writer_pid(self._store.path))

    def _remove_unused(self) -> None:
        if time.monotonic() - self._removed_at >= _REMOVE_SECONDS:
            self._removed_at = time.monotonic()
            generations.remove_unused(self._store.home)

    def _start_takeover(self) -> None:
        if (self._takeover is None or not self._takeover.is_alive()) and not self._closed.is_set():
            name = f"kafkaproxy-take-over-{self._cluster}"
            self._takeover = threading.Thread(target=self._take_over, name=name, daemon=True)
            self._takeover.start()

    def _take_over(self) -> None:
        """Copy the store to another generation. Its writer is this process or the next one that gets its lock."""
        frozen = writer_pid(self._store.path)
        if frozen is None:  # the writer is dead, not frozen: the next writer continues in the same generation
            return
        if shutil.disk_usage(self._store.home).free < _MIN_FREE_BYTES:
            log.error("store_takeover_failed cluster=%s: free the disk", self._cluster)
            self._closed.wait(_RETRY_SECONDS)
            return
        try:
            if generations.try_replace(self._store.home, self._store.path, self._copy_store):
                STORE_TAKEOVERS.cell(self._cluster).value += 1
                log.warning("store_taken_over cluster=%s frozen=%s", self._cluster, frozen)
        except Exception:
            log.exception("store_takeover_failed cluster=%s", self._cluster)
            self._closed.wait(_RETRY_SECONDS)

    def _copy_store(self, path: Path) -> bool:
        copy_environment(self._store.env, path)
        # The copy may have taken long: the writer may have continued, or this process be about to stop.
        return self._silent_seconds > self._limits.writer_timeout and not self._closed.is_set()
