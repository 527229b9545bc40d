"""One cluster's worker in this process: it produces records, reads topics from the store, and runs ingest if it may."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Final

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.ingest.coordinator import Ingest
from kafkaproxy.worker.kafka.client import Limits, admin_config, check_client, consumer_config
from kafkaproxy.worker.kafka.history_reader import HistoryReader
from kafkaproxy.worker.kafka.mailbox import PendingRecord
from kafkaproxy.worker.kafka.mock_cluster import embedded_servers
from kafkaproxy.worker.kafka.offsets import LogOffsets
from kafkaproxy.worker.kafka.producer import AckedProducer
from kafkaproxy.worker.notify.hub import Hub
from kafkaproxy.worker.notify.hubs import Hubs
from kafkaproxy.worker.notify.wake_socket import WakeSocket
from kafkaproxy.worker.own_writes import OwnWrites
from kafkaproxy.worker.requested_topics import RequestedTopics
from kafkaproxy.worker.retired_generations import RetiredGenerations
from kafkaproxy.worker.store.background_writes import BackgroundWrites
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.watch import StoreWatch
from kafkaproxy.worker.store.writer import reset_stale_readiness
from kafkaproxy.worker.store.writer_lock import prepare
from kafkaproxy.worker.store_listener import StoreListener
from kafkaproxy.worker.topic_states import TopicStates
from kafkaproxy.worker.types import Acks, ClusterConfig, Delivery, Headers, Role

__all__ = ["ClusterWorker"]

log = logging.getLogger("kafkaproxy.worker")

_OWN_WRITES_SECONDS: Final = 1.0
_RETIRING_SECONDS: Final = 0.2
_POLL_SECONDS: Final = 0.5
"""The shortest time between two requests of this process for a metadata poll."""
_CLOSING_SECONDS: Final = 1.0
"""What a stop keeps for closing, after the records were flushed."""
_BLOCKED_SECONDS: Final = 2.0
"""How long closing waits for threads that a frozen writer may block."""


class ClusterWorker:
    """Produces to a cluster and reads its topics. Start and close it from any thread; use it from event loops."""

    def __init__(self, config: ClusterConfig, limits: Limits) -> None:
        check_client(config.client)
        self.config = config
        self.limits = limits
        folder = limits.store_dir / config.name
        self.servers = embedded_servers(folder) if config.embedded else str(config.client["bootstrap.servers"])
        prepare(folder)
        self.store = Store(folder, limits.store_max_bytes)
        """The generation of the store that is in service."""
        reset_stale_readiness(self.store, self.servers, limits.writer_timeout)
        self.watch = StoreWatch(config.name, self.store, limits)
        self.scans = ThreadPoolExecutor(2, thread_name_prefix=f"kafkaproxy-scan-{config.name}")
        """For reading whole topics from the store."""
        self.offsets = LogOffsets(admin_config(config, self.servers), embedded=config.embedded)
        self.history = HistoryReader(consumer_config(config, self.servers))
        self.users: set[object] = set()
        """The requests that are in progress here. A retiring worker closes when there are none left."""
        self._own_writes = OwnWrites()
        self._states = TopicStates(self.servers, self.store, self._own_writes)
        self.cache_generations = self._states.cache_generations
        """Topic → the object that a cached response is valid under; see :meth:`cache_generation`."""
        self._hubs = Hubs(self.store, self.topics, limits.max_merges)
        self._background_writes = BackgroundWrites(self.store)
        self._requested_topics = RequestedTopics(self._background_writes, limits)
        self._producers: dict[Acks, AckedProducer] = {}
        self._producers_lock = threading.Lock()
        self._polled_at = -_POLL_SECONDS
        """When this process last asked the writer for a metadata poll, by the monotonic clock."""
        self._closed = threading.Event()
        self._stop_waiting = threading.Event()
        self._stop_by: float | None = None
        self._wake_socket = WakeSocket(folder)
        self._listener = StoreListener(
            config.name,
            self._wake_socket,
            is_fresh=lambda: self.is_fresh,
            check_store=self._check_store,
            last_transaction=self._last_transaction,
            changed=self._on_store_change,
        )
        self._may_ingest = limits.ingest
        self._ingest_lock = threading.Lock()
        self.ingest = self._new_ingest()
        self._retired_generations = RetiredGenerations(config.name)

    def _new_ingest(self) -> Ingest | None:
        if not self._may_ingest:
            return None
        return Ingest(self.config, self.servers, self.store, self.limits, self._on_commit, self._hubs.dispatch_early)

    def start(self) -> None:
        """Start the threads."""
        self._listener.start()
        if self.ingest is not None:
            self.ingest.start()

    def configure(self, config: ClusterConfig) -> None:
        """Apply a configuration whose client options are the same."""
        self.config = config
        if self.ingest is not None:
            self.ingest.configure(config)

    def retire(self) -> None:
        """Leave reading to a successor, wait for the requests in progress, then close.

        Blocks until then, at most for the longest wait of a request and the timeout of its acknowledgement.
        """
        self._hubs.end_followers()
        self._stop_ingest(self.limits.stop)
        deadline = time.monotonic() + self.limits.max_wait + self.limits.produce_timeout
        while self._is_busy() and time.monotonic() < deadline and not self._stop_waiting.wait(_RETIRING_SECONDS):
            pass
        self.close(self._stop_by)

    def _stop_ingest(self, seconds: float) -> bool:
        """Stop ingest for good; return True if it ended within ``seconds``."""
        with self._ingest_lock:  # the listener could otherwise start another one, for a new generation
            self._may_ingest = False
            ingest = self.ingest
        return ingest is None or ingest.close(seconds)

    def shorten_waits(self, seconds: float) -> None:
        """Let no request wait longer than this for an acknowledgement from now on."""
        for producer in tuple(self._producers.values()):
            producer.shorten_waits(seconds)

    def finish_retiring(self, stop_by: float) -> None:
        """Let :meth:`retire` close now, without waiting for requests, and end by ``stop_by`` (monotonic clock)."""
        self._stop_by = stop_by
        self._stop_waiting.set()

    def _is_busy(self) -> bool:
        return bool(self.users) or any(each.queued() for each in self._producers.values())

    def close(self, stop_by: float | None = None) -> None:
        """Flush the producers, stop the threads, close the store.

        ``stop_by``: when that has to be done, by the monotonic clock; by default ``STOP_SECONDS`` from now. What is not done by
        then ends with the process.
        """
        stop_by = time.monotonic() + self.limits.stop if stop_by is None else stop_by
        self._closed.set()
        self._listener.stop()
        self.watch.close()
        self._hubs.end_followers()
        flush = max(stop_by - time.monotonic() - _CLOSING_SECONDS, 0)
        closing = [Thread(target=producer.close, args=(flush,), daemon=True) for producer in self._producers.values()]
        closing.append(Thread(target=self._close_reading, args=(flush,), daemon=True))
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(max(stop_by - time.monotonic(), 0))
        if any(thread.is_alive() for thread in closing):
            log.warning("stop_incomplete cluster=%s", self.config.name)

    def _close_reading(self, seconds: float) -> None:
        is_stopped = self._stop_ingest(seconds)
        self._listener.close()
        self.history.close()
        self._retired_generations.join(_BLOCKED_SECONDS)
        # A frozen writer blocks every other thread that writes. Closing the environment under such a thread would crash.
        is_blocked = not self._background_writes.close(_BLOCKED_SECONDS) or not is_stopped
        self.scans.shutdown(wait=True, cancel_futures=True)
        self.store.close(may_be_in_use=is_blocked)

    # Producing

    def send(
        self, acks: Acks, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, defer_ack: bool = False
    ) -> asyncio.Future[Delivery]:
        """Produce a record; return the future of its acknowledgement. Raise :class:`ProduceError` if it was not accepted.

        ``defer_ack``: the future is done only after :meth:`deliver_ack` was called; see :meth:`AckedProducer.produce`.
        """
        return self._track_own_write(topic, self._producer(acks).produce(topic, key, value, headers, defer_ack=defer_ack))

    def wait_again(self, acks: Acks, pending: PendingRecord, *, defer_ack: bool = False) -> asyncio.Future[Delivery]:
        """Wait once more, as :meth:`send` does, for a record that was not acknowledged in time."""
        return self._track_own_write(pending.topic, self._producer(acks).wait_again(pending, defer_ack=defer_ack))

    def deliver_ack(self, delivery: asyncio.Future[Delivery]) -> None:
        """Let a future of ``defer_ack`` be done as soon as its record is acknowledged, and now if it is already."""
        for producer in self._producers.values():
            producer.deliver_ack(delivery)

    def _track_own_write(self, topic: str, delivery: asyncio.Future[Delivery]) -> asyncio.Future[Delivery]:
        if topic in self._states.known or topic in self.config.topics:  # configured: it may be read soon
            delivery.add_done_callback(self._add_own_write)
        return delivery

    def _add_own_write(self, done: asyncio.Future[Delivery]) -> None:
        if done.cancelled() or done.exception() is not None or done.result().offset < 0:
            return
        delivery = done.result()
        self._own_writes.add(delivery)
        state = self._states.known.get(delivery.topic)
        if state is not None and state.error:
            self.poll_metadata()  # producing to the topic may just have created it
        self.cache_generations.pop(delivery.topic, None)

    def _producer(self, acks: Acks) -> AckedProducer:
        producer = self._producers.get(acks)
        if producer is None:
            with self._producers_lock:
                producer = self._producers.get(acks)
                if producer is None:
                    producer = self._producers[acks] = AckedProducer(self.config, self.servers, acks, self.limits)
        return producer

    # Reading

    @property
    def is_fresh(self) -> bool:
        """True if the process that writes the store is alive, so that what was read from it may be served."""
        return self.watch.is_fresh

    def topic(self, name: str, role: Role) -> TopicState | None:
        """Return a topic that is ready to serve ``role`` and holds what this process wrote, else None; never waits."""
        state = self._states.known.get(name)
        if state is None or not state.ready or state.error or role not in state.roles or not self.is_fresh:
            return None
        if name in self._own_writes.next_offsets and not self._has_own_writes(name, state):
            return None
        if name not in self.config.topics:
            self._requested_topics.renew(name, role)
        return state

    def is_unchanged(self, state: TopicState) -> bool:
        """Return True if the topic was neither dropped nor re-read since ``state`` was taken. Ask after reading records."""
        if self.is_fresh and self.store.is_unchanged(state):
            return True
        self._notify()
        return False

    def cache_generation(self, name: str) -> object:
        """Return the topic's cache generation. Take it *before* reading what is cached under it.

        A topic that only requests name gets a new one each time, so that nothing is cached: clients could name any number.
        """
        if name not in self.config.topics:
            return object()
        return self.cache_generations.setdefault(name, object())

    async def ready(self, name: str, role: Role, patience: float) -> TopicState:
        """Wait up to ``patience`` seconds for :meth:`topic`; raise :class:`TopicUnavailable` with the reason otherwise."""
        if (state := self.topic(name, role)) is not None:
            return state
        try:
            async with asyncio.timeout(patience):
                state = await self._wait_until_ready(name, role)
        except TimeoutError:
            state = self._states.known.get(name)
            raise TopicUnavailable(Unavailable(state.error) if state and state.error else Unavailable.NOT_READ_YET) from None
        await self._wait_for_own_writes(name, state)
        return state

    async def read_to_end(self, name: str, role: Role, patience: float) -> TopicState:
        """Wait until the store holds every record that the topic holds now, whichever host produced it.

        Raise :class:`TopicUnavailable` if that takes longer than ``patience`` seconds.
        """
        state = await self.ready(name, role, patience)
        partitions, ends = await self.offsets.ends(name, state.partitions)
        try:
            async with asyncio.timeout(patience):
                while partitions > state.partitions:  # the topic has partitions that ingest has not noticed yet
                    state = await self._wait_for_partitions(name, partitions)
                    partitions, ends = await self.offsets.ends(name, state.partitions)
                with self.hub().change(name) as changed:
                    while not self._has_reached(state, ends):
                        await self._wait_for_progress(changed)
        except TimeoutError:
            raise TopicUnavailable(Unavailable.NOT_READ_YET) from None
        return state

    async def _wait_for_progress(self, changed: asyncio.Event) -> None:
        """Wait until a topic's position moved.

        A position can move without a record, past the end of a transaction. The writer notices that only after a metadata poll.
        """
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await changed.wait()
        except TimeoutError:
            self.poll_metadata()
        changed.clear()

    async def _wait_for_partitions(self, name: str, partitions: int) -> TopicState:
        """Wait until at least ``partitions`` partitions of a topic are read."""
        self.poll_metadata()
        while (state := self._states.known.get(name)) is None or state.partitions < partitions:
            await self.hub().states_changed()
        return state

    def _has_reached(self, state: TopicState, ends: Mapping[int, int]) -> bool:
        reached = self.store.next_offsets(state.key)
        return all(reached.get(partition, 0) >= end for partition, end in ends.items())

    async def _wait_until_ready(self, name: str, role: Role) -> TopicState:
        hub = self.hub()
        await self._register_interest(name, role)
        while True:
            state = self._states.known.get(name)
            if state is not None and role in state.roles:
                if state.error and state.error != Unavailable.NOT_READ_YET:
                    raise TopicUnavailable(Unavailable(state.error))
                if state.ready and not state.error and self.is_fresh:
                    return state
            await hub.states_changed()

    async def _register_interest(self, name: str, role: Role) -> None:
        """Ask the writer to read a topic for a role that no configuration names."""
        known = self.config.topics.get(name)
        if known is not None and role in known.roles:
            return
        if await self._requested_topics.register(name, role, self.store):
            if self.ingest is not None and self.ingest.writing:
                self.ingest.check_interest()
            self._wake_socket.wake_others()

    def renew_interest(self, name: str, role: Role) -> None:
        """Tell the writer that a topic is still used: an open stream asked for it once, and goes on using it."""
        if name not in self.config.topics and not self._closed.is_set():
            self._requested_topics.renew(name, role)

    def poll_metadata(self) -> None:
        """Let the process that writes the store poll the topics' metadata now, not at the next interval."""
        if self.ingest is not None and self.ingest.writing:
            self.ingest.poll_metadata()
        elif not self._closed.is_set() and time.monotonic() - self._polled_at >= _POLL_SECONDS:
            self._polled_at = time.monotonic()
            self._background_writes.submit(self._request_metadata_poll)

    def _request_metadata_poll(self, store: Store) -> None:
        store.request_metadata_poll()
        self._wake_socket.wake_others()

    async def _wait_for_own_writes(self, name: str, state: TopicState) -> None:
        """Wait for up to a second until the store holds what this process produced, so that clients read their writes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OWN_WRITES_SECONDS):
                with self.hub().change(name) as changed:
                    while name in self._own_writes.next_offsets and not self._has_own_writes(name, state):
                        await changed.wait()
                        changed.clear()

    def _has_own_writes(self, name: str, state: TopicState) -> bool:
        return self._own_writes.are_stored(name, self.store.next_offsets(state.key))

    def hub(self) -> Hub:
        """Return the hub of the running event loop, which wakes the requests that wait there."""
        return self._hubs.current(self.config.correlation_headers)

    def topics(self) -> Mapping[str, TopicState]:
        """Return topic → state, of every topic that the store knows."""
        return self._states.known

    # Changes of the store

    def _on_commit(self) -> None:
        """Notify this process and the others of the host; called by the writer's threads after a commit."""
        self._notify()
        self._wake_socket.wake_others()

    def _on_store_change(self) -> None:
        """Notify this process; called by the listener after another process wrote."""
        if self.ingest is not None and self.ingest.writing:
            self.ingest.check_interest()  # what other processes write is topic interest and requests for a poll
        self._notify()

    def _notify(self) -> None:
        is_changed = self._states.refresh()
        # Before the hubs wake: a request that reads after its wake-up must not find a response that was cached before.
        self._states.renew_cache_generations()
        if is_changed:
            self._hubs.call(Hub.topics_changed)
        self._hubs.wake()

    def _last_transaction(self) -> int:
        return self.store.transaction()

    def _check_store(self) -> bool:
        """Check whether the store can be served, and move to its current generation; return True if that is another one."""
        was_fresh = self.is_fresh
        is_replaced = not self.watch.check()
        if is_replaced:
            self._switch_generation()
        if is_replaced or (self.is_fresh and not was_fresh):
            self._hubs.call(Hub.topics_changed)
        return is_replaced

    def _switch_generation(self) -> None:
        """Continue with the generation of the store that is current now. Waiting requests and open streams stay."""
        store = Store(self.store.folder, self.limits.store_max_bytes)
        reset_stale_readiness(store, self.servers, self.limits.writer_timeout)
        former_store, former_ingest = self.store, self.ingest
        self.store = store
        self._states.switch_store(store)
        self.watch = StoreWatch(self.config.name, store, self.limits)
        self._requested_topics.clear()
        self._hubs.switch_store(store)
        self._background_writes.switch_store(store)
        with self._ingest_lock:
            self.ingest = self._new_ingest()
            if self.ingest is not None:
                self.ingest.start()
        log.info("store_moved cluster=%s path=%s pid=%s", self.config.name, store.path, os.getpid())
        self._retired_generations.close_later(former_store, former_ingest)
