"""Ingest: Kafka → store, in the one process of the host that holds the writer's lock.

A coordinator thread decides what is read: it compares topic interest (what configuration and requests name) with what Kafka
says of the topics. Reader threads, each with a consumer of its own, bring the records: one for topics that are live, one for
topics that are being caught up, so that a big topic does not delay the others, and one for backfills after a role was added.
Partitions are assigned, never subscribed in a group. Progress is committed in the same transaction as the records that it
counts, so the next writer continues exactly where a process that was killed had arrived.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import lmdb
from confluent_kafka import KafkaError

from kafkaproxy.worker.ingest.garbage import Garbage
from kafkaproxy.worker.ingest.metadata_poller import MetadataPoller
from kafkaproxy.worker.ingest.reading import Reading
from kafkaproxy.worker.ingest.topic_interest import topic_interest
from kafkaproxy.worker.ingest.topic_sync import TopicSync
from kafkaproxy.worker.kafka.client import Limits, admin_config, consumer_config
from kafkaproxy.worker.kafka.log_rate_limit import librdkafka_log
from kafkaproxy.worker.store.capacity import is_full
from kafkaproxy.worker.store.reader import Store
from kafkaproxy.worker.store.retention import Retention
from kafkaproxy.worker.store.writer import StoreWriter
from kafkaproxy.worker.store.writer_lock import WriterLock, mark
from kafkaproxy.worker.types import ClusterConfig, Record, Role, TopicSettings

__all__ = ["Ingest"]

log = logging.getLogger("kafkaproxy.ingest")

_PERIODIC_SECONDS: Final = 1.0
_HEARTBEAT_SECONDS: Final = 0.9
_LOCK_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 2.0
_GARBAGE_SECONDS: Final = 0.002
"""Between two steps of dropping garbage, so that records are written in between."""


class Ingest:
    """The writer's side of a cluster.

    ``dispatch_early`` is called with a reply topic's records before they are committed, ``wake`` after commits; both from
    threads of the writer. State that several threads use is guarded by one mutex (``Reading.mutex``), which is held for a step
    of a few milliseconds at most.
    """

    def __init__(
        self,
        cluster: ClusterConfig,
        servers: str,
        store: Store,
        limits: Limits,
        wake: Callable[[], None],
        dispatch_early: Callable[[str, Sequence[Record]], None],
    ) -> None:
        self._cluster = cluster
        self._servers = servers
        self._store = store
        self._limits = limits
        self._wake = wake
        self._dispatch_early = dispatch_early
        self._topics: Mapping[str, TopicSettings] = cluster.topics
        self._lock = WriterLock(store.path)
        self._writer = StoreWriter(store, cluster.correlation_headers, limits.writer_timeout)
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._retention = Retention(cluster.name, store, self._quota, self._write_heartbeat)
        self._begin_session()
        self._poller: MetadataPoller | None = None
        self._poll_request = b""
        """The last request for a metadata poll by another process that was seen in the store."""
        self._next_heartbeat = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kafkaproxy-ingest-{cluster.name}", daemon=True)

    def start(self) -> None:
        """Start the thread. It waits for the writer's lock if another process holds it."""
        self._thread.start()

    @property
    def writing(self) -> bool:
        """True if this process is the writer."""
        return self._lock.held

    @property
    def alive(self) -> bool:
        """True if the coordinator thread runs."""
        return self._thread.is_alive()

    def configure(self, cluster: ClusterConfig) -> None:
        """Apply the topics of a new configuration."""
        self._topics = cluster.topics
        self._commands.put(self._apply_interest)

    def check_interest(self) -> None:
        """Read the topic interest of requests now, not at the next turn; from any thread."""
        self._commands.put(self._apply_interest)

    def poll_metadata(self) -> None:
        """Poll the topics' metadata now; from any thread. Does nothing if another process is the writer."""
        self._reading.request_positions()
        self._poll_metadata_now()

    def _poll_metadata_now(self) -> None:
        poller = self._poller
        if poller is not None:
            poller.poll_now()

    def close(self, seconds: float) -> bool:
        """Stop, sync the store, release the lock; return True if that was done within ``seconds``."""
        self._closed.set()
        self._commands.put(lambda: None)  # ends the wait for a command
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if self._lock.acquire():
                    self._write()
            except Exception:
                # If this thread ended, the lock would stay free and the store without a writer.
                log.exception("ingest_failed cluster=%s", self._cluster.name)
                self._closed.wait(_RETRY_SECONDS)
            finally:
                try:
                    self._stop_clients()
                finally:
                    self._lock.release()
            self._closed.wait(_LOCK_SECONDS)

    def _write(self) -> None:
        """Be the writer until closed."""
        log.info("ingest_started cluster=%s", self._cluster.name)
        # Not clean until the end: after a crash of the machine the store must not be trusted.
        mark(self._store.folder, clean=False)
        self._begin_session()
        self._reading.states = self._writer.begin(os.urandom(8), self._servers)
        # After begin(): a heartbeat makes readers serve the store, and begin() withdraws what only a dead writer called ready.
        self._next_heartbeat = 0.0
        self._write_heartbeat()
        self._wake()
        self._retention.begin()
        self._garbage.add(self._writer.orphaned_topic_ids(self._reading.states.values()))
        self._start_poller()
        next_run = 0.0
        while not self._closed.is_set():
            if time.monotonic() >= next_run:
                next_run = time.monotonic() + _PERIODIC_SECONDS
                self._run_periodic_tasks()
            self._write_heartbeat()
            self._garbage.drop_step()
            self._run_commands(_GARBAGE_SECONDS if self._garbage else max(next_run - time.monotonic(), 0))
        self._stop_clients()
        self._store.env.sync(True)
        if self._store.is_current:  # else another process writes another generation, and only it knows if that is clean
            mark(self._store.folder, clean=True)

    def _begin_session(self) -> None:
        """Start without anything from an earlier time as the writer."""
        self._commands = queue.SimpleQueue()  # commands of former readers and pollers no longer apply
        self._reading = Reading(
            self._cluster.name,
            {**consumer_config(self._cluster, self._servers), "error_cb": self._on_error},
            self._store,
            self._writer,
            self._retention,
            dispatch_early=self._dispatch_early,
            wake=self._wake,
            poll_metadata=self._poll_metadata_now,
            post=self._commands.put,
        )
        self._garbage = Garbage(self._writer)
        self._sync = TopicSync(
            self._cluster.name,
            self._store,
            self._writer,
            self._reading,
            self._retention,
            self._garbage,
            interest=self._interest,
            settings=self._settings,
            heartbeat=self._write_heartbeat,
            wake=self._wake,
        )

    def _start_poller(self) -> None:
        # The poller's thread only posts: what is read is changed by this thread.
        commands, sync = self._commands, self._sync
        self._poller = MetadataPoller(
            self._cluster.name,
            admin_config(self._cluster, self._servers),
            min(self._limits.metadata_interval, self._limits.retention_interval),
            lambda cluster_id, infos: commands.put(lambda: sync.apply(cluster_id, infos)),
            embedded=self._cluster.embedded,
        )
        self._poller.start()

    def _run_periodic_tasks(self) -> None:
        """Do what is due once a second."""
        self._apply_interest()
        self._enforce_quotas()
        self._reading.balance()
        # A process that was killed while it read the store still has a slot in LMDB's reader table, which keeps every page of
        # that time from being reused.
        self._store.env.reader_check()

    def _write_heartbeat(self) -> None:
        """Write a heartbeat if it is due: without one for ``WRITER_TIMEOUT_SECONDS`` another process takes over."""
        if time.monotonic() < self._next_heartbeat:
            return
        self._next_heartbeat = time.monotonic() + _HEARTBEAT_SECONDS
        try:
            self._writer.write_heartbeat(self._servers)
        except lmdb.Error as error:
            if not is_full(error):
                raise

    def _run_commands(self, seconds: float) -> None:
        """Run the commands in the queue, waiting up to ``seconds`` for the first."""
        try:
            command = self._commands.get(timeout=seconds)
            while True:
                command()
                command = self._commands.get_nowait()
        except queue.Empty:
            return

    def _stop_clients(self) -> None:
        if self._poller is not None:
            self._poller.close()
            self._poller = None
        self._reading.close()

    def _apply_interest(self) -> None:
        """Stop reading topics without interest, poll the metadata of the others; poll now if another process asked for it."""
        if self._poller is None:
            return
        before, self._poll_request = self._poll_request, self._store.metadata_poll_request()
        if before != self._poll_request:
            self.poll_metadata()
        interest = self._interest()
        with self._reading.mutex:
            states = self._reading.states
            if dropped := [states.pop(name) for name in states.keys() - interest.keys()]:
                for state in dropped:
                    self._reading.drop(state.name)
                self._writer.remove_topics(dropped)
                self._garbage.add(state.key for state in dropped if state.id)
                self._wake()
        self._poller.set_topics(interest)

    def _interest(self) -> dict[str, frozenset[Role]]:
        return topic_interest(self._topics, self._store, self._writer, self._limits)

    def _enforce_quotas(self) -> None:
        """Remove what streamed topics hold over their quotas, a step at a time; resume a topic that was stopped."""
        reading = self._reading
        self._retention.measure(len(reading.states))
        for name, state in list(reading.states.items()):
            # The mutex is free between two steps, so that records are written; a command may drop or restart the topic.
            while reading.states.get(name) is state:
                with reading.mutex:
                    if not self._retention.shrink(state):
                        break
                self._write_heartbeat()
                self._run_commands(0)
        with reading.mutex:
            resumed = self._retention.next_to_resume(reading.states)
            if resumed is not None:
                log.info("store_has_room cluster=%s topic=%s", self._cluster.name, resumed)
                reading.set_state(replace(reading.states[resumed], error=""))
                self._wake()
                self.poll_metadata()

    def _quota(self, name: str) -> int:
        given = self._settings(name).store_bytes
        return self._limits.stream_store_bytes if given is None else given

    def _settings(self, name: str) -> TopicSettings:
        return self._topics.get(name) or TopicSettings()

    def _on_error(self, error: KafkaError) -> None:
        librdkafka_log.warning("consumer_error cluster=%s error=%s", self._cluster.name, error.name())
