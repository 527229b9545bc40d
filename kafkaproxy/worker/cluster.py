"""One cluster's worker in this process: producers, the store, its writer if it is our turn, and who waits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Thread
from typing import Final

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.ingest.coordinator import Ingest
from kafkaproxy.worker.kafka.client import Limits, admin_config, check_client, consumer_config
from kafkaproxy.worker.kafka.history_reader import HistoryReader
from kafkaproxy.worker.kafka.mailbox import Sent
from kafkaproxy.worker.kafka.mock_cluster import embedded_servers
from kafkaproxy.worker.kafka.offsets import LogOffsets
from kafkaproxy.worker.kafka.producer import AckedProducer
from kafkaproxy.worker.notify.hub import Hub
from kafkaproxy.worker.notify.wake_socket import WakeSocket
from kafkaproxy.worker.store.errands import Errands
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.watch import StoreWatch
from kafkaproxy.worker.store.writer import doubt
from kafkaproxy.worker.store.writer_lock import prepare
from kafkaproxy.worker.types import Acks, ClusterConfig, Delivery, Headers, Record, Role

__all__ = ["ClusterWorker"]

log = logging.getLogger("kafkaproxy.worker")

_WANT_SECONDS: Final = 60.0
_OWN_WRITES_SECONDS: Final = 1.0
_RETIRING_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.5
_CLOSING_SECONDS: Final = 1.0
"""What is left for the end of a stop, when what could be flushed was."""
_LOOK_SOON_SECONDS: Final = 0.05
"""Between two looks at a store that cannot be served."""
_LEAVING_SECONDS: Final = 15.0
_BLOCKED_SECONDS: Final = 2.0
"""How long closing waits for what a frozen writer blocks."""


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
        doubt(self.store, self.servers, limits.writer_timeout)
        self.watch = StoreWatch(config.name, self.store, limits)
        self._errands = Errands(self.store)
        self.scans = ThreadPoolExecutor(2, thread_name_prefix=f"kafkaproxy-scan-{config.name}")
        """For what looks through whole topics."""
        self._topics: Mapping[str, TopicState] = {}
        self._topics_version = b""
        self._topics_lock = threading.Lock()
        self._hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
        self._producers: dict[Acks, AckedProducer] = {}
        self._producers_lock = threading.Lock()
        self._asked: dict[tuple[str, Role], float] = {}
        self._own_writes: dict[str, dict[int, int]] = {}
        self.stamps: dict[str, object] = {}
        """Topic → an object that is replaced with every change; what was read under a stamp holds while it is there."""
        self._stamped: dict[str, object] = {}
        self.offsets = LogOffsets(admin_config(config, self.servers), embedded=config.embedded)
        self.history = HistoryReader(consumer_config(config, self.servers))
        self._looked = -_LOOK_SECONDS
        """When another process was last asked to look at the topics."""
        self._closed = threading.Event()
        self._hurry = threading.Event()
        self._stop_by: float | None = None
        self.users: set[object] = set()
        """The requests that are under way here."""
        self._wake_socket = WakeSocket(folder)
        self._listener = Thread(target=self._listen, name=f"kafkaproxy-wake-{config.name}", daemon=True)
        self._may_ingest = limits.ingest
        self._ingest_lock = threading.Lock()
        self.ingest = self._new_ingest()
        self._leaving: list[Thread] = []
        """End the readers of former generations."""
        self._refresh_topics()

    def _new_ingest(self) -> Ingest | None:
        if not self._may_ingest:
            return None
        return Ingest(self.config, self.servers, self.store, self.limits, self._committed, self._dispatch_early)

    def start(self) -> None:
        """Start the threads."""
        self._listener.start()
        if self.ingest is not None:
            self.ingest.start()

    def configure(self, config: ClusterConfig) -> None:
        """Take over a configuration whose client options are the same."""
        self.config = config
        if self.ingest is not None:
            self.ingest.configure(config)

    def retire(self) -> None:
        """Leave reading to a successor, let what is under way finish, then close. Blocks for as long as that takes.

        Nobody waits longer than the longest wait.
        """
        self._end_streams()
        self._stop_ingest(self.limits.stop)
        deadline = time.monotonic() + self.limits.max_wait + self.limits.produce_timeout
        while self._is_busy() and time.monotonic() < deadline and not self._hurry.wait(_RETIRING_SECONDS):
            pass
        self.close(self._stop_by)

    def _stop_ingest(self, seconds: float) -> bool:
        """Stop reading; return True if that was done within the time."""
        with self._ingest_lock:  # else the listener might have made another one
            self._may_ingest = False
            ingest = self.ingest
        return ingest is None or ingest.close(seconds)

    def hurry(self, seconds: float) -> None:
        """Let no request wait longer than this for an acknowledgement from now on."""
        for producer in tuple(self._producers.values()):
            producer.hurry(seconds)

    def stop_retiring(self, stop_by: float) -> None:
        """Have :meth:`retire` close now, whoever waits, and be done by then."""
        self._stop_by = stop_by
        self._hurry.set()

    def _is_busy(self) -> bool:
        return bool(self.users) or any(each.queued() for each in self._producers.values())

    def close(self, stop_by: float | None = None) -> None:
        """Flush what was handed over, stop the threads, give the store back.

        ``stop_by``: when that has to be done, by the monotonic clock; the setting ``STOP_SECONDS`` from now unless given. What
        is not done by then is left to the end of the process.
        """
        stop_by = time.monotonic() + self.limits.stop if stop_by is None else stop_by
        self._closed.set()
        self.watch.close()
        self._end_streams()
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
        with contextlib.suppress(OSError):
            self._wake_socket.wake()
        self._listener.join(timeout=2)
        self._wake_socket.close()
        self.history.close()
        for thread in self._leaving:
            thread.join(timeout=_BLOCKED_SECONDS)
        # A writer that is frozen may block whatever writes for as long as it is: the environment must not close meanwhile.
        is_blocked = not self._errands.close(_BLOCKED_SECONDS) or not is_stopped
        self.scans.shutdown(wait=True, cancel_futures=True)
        self.store.close(may_be_in_use=is_blocked)

    def _end_streams(self) -> None:
        for loop, hub in self._hubs.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(hub.end_followers)

    # Producing

    def send(
        self, acks: Acks, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, patient: bool = False
    ) -> asyncio.Future[Delivery]:
        """Hand a record over; the future is its acknowledgement. Raise :class:`ProduceError` where nothing was taken.

        A ``patient`` future has to be settled: see :meth:`AckedProducer.produce`.
        """
        return self._noting(topic, self._producer(acks).produce(topic, key, value, headers, patient=patient))

    def rejoin(self, acks: Acks, sent: Sent, *, patient: bool = False) -> asyncio.Future[Delivery]:
        """Wait again, as :meth:`send` does, for a record that was not acknowledged in time."""
        return self._noting(sent.topic, self._producer(acks).rejoin(sent, patient=patient))

    def _noting(self, topic: str, delivery: asyncio.Future[Delivery]) -> asyncio.Future[Delivery]:
        if topic in self._topics or topic in self.config.topics:  # one that is read, though maybe not known yet
            delivery.add_done_callback(self._note_own_write)
        return delivery

    def settle(self, delivery: asyncio.Future[Delivery]) -> None:
        """Say whether a patient future's record is acknowledged."""
        for producer in self._producers.values():
            producer.settle(delivery)

    def _note_own_write(self, done: asyncio.Future[Delivery]) -> None:
        if done.cancelled() or done.exception() is not None or done.result().offset < 0:
            return
        delivery = done.result()
        marks = self._own_writes.setdefault(delivery.topic, {})
        marks[delivery.partition] = max(marks.get(delivery.partition, 0), delivery.offset + 1)
        state = self._topics.get(delivery.topic)
        if state is not None and state.error:
            self.look_again()  # producing to it may just have created it
        self.stamps.pop(delivery.topic, None)

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
        """Whether the process that writes the store lives, so that what was read may be served."""
        return self.watch.is_fresh

    def topic(self, name: str, role: Role) -> TopicState | None:
        """Return a topic that is ready to serve ``role`` and holds what this process wrote; never waits."""
        state = self._topics.get(name)
        if state is None or not state.ready or state.error or role not in state.roles or not self.is_fresh:
            return None
        if name in self._own_writes and not self._has_own_writes(name, state):
            return None
        if name not in self.config.topics:
            self._note_use(name, role)
        return state

    def _note_use(self, name: str, role: Role) -> None:
        """Say, now and then, that a topic that only requests name is still used."""
        now = time.time()
        if now - self._asked.get((name, role), 0) >= min(_WANT_SECONDS, self.limits.topic_idle / 3):
            self._asked[name, role] = now
            self._errands.submit(lambda store: store.note_interest(name, frozenset({role}), now))

    def holds(self, state: TopicState) -> bool:
        """Whether what was just read of a topic can be believed: nobody began to drop it, or to read it anew, meanwhile."""
        if self.is_fresh and self.store.holds(state):
            return True
        self._wake_here()
        return False

    def stamp(self, name: str) -> object:
        """Return the topic's stamp. Take it *before* reading what is to be kept under it.

        A topic that only requests name has none that lasts: clients could name any number.
        """
        if name not in self.config.topics:
            return object()
        return self.stamps.setdefault(name, object())

    async def ready(self, name: str, role: Role, patience: float) -> TopicState:
        """Wait up to ``patience`` seconds for :meth:`topic`; raise :class:`TopicUnavailable` that says what is missing."""
        if (state := self.topic(name, role)) is not None:
            return state
        try:
            async with asyncio.timeout(patience):
                state = await self._ready(name, role)
        except TimeoutError:
            state = self._topics.get(name)
            raise TopicUnavailable(Unavailable(state.error) if state and state.error else Unavailable.NOT_READ_YET) from None
        await self._see_own_writes(name, state)
        return state

    async def read_to_end(self, name: str, role: Role, patience: float) -> TopicState:
        """Wait until the store holds all that the topic holds now, whichever host wrote it."""
        state = await self.ready(name, role, patience)
        partitions, ends = await self.offsets.ends(name, state.partitions)
        try:
            async with asyncio.timeout(patience):
                while partitions > state.partitions:  # the log goes on in some that nobody here has heard of
                    state = await self._grown(name, partitions)
                    partitions, ends = await self.offsets.ends(name, state.partitions)
                with self.hub().change(name) as changed:
                    while not self._reaches(state, ends):
                        await self._moves(changed)
        except TimeoutError:
            raise TopicUnavailable(Unavailable.NOT_READ_YET) from None
        return state

    async def _moves(self, changed: asyncio.Event) -> None:
        """Wait until a topic's position moved. It may move past what no record shows: for that the writer has to look."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await changed.wait()
        except TimeoutError:
            self.look_again()
        changed.clear()

    async def _grown(self, name: str, partitions: int) -> TopicState:
        """Wait until as many partitions of a topic are read."""
        self.look_again()
        while (state := self._topics.get(name)) is None or state.partitions < partitions:
            await self.hub().states_changed()
        return state

    def _reaches(self, state: TopicState, ends: Mapping[int, int]) -> bool:
        reached = self.store.next_offsets(state.key)
        return all(reached.get(partition, 0) >= end for partition, end in ends.items())

    async def _ready(self, name: str, role: Role) -> TopicState:
        hub = self.hub()
        await self._ask(name, role)
        while True:
            state = self._topics.get(name)
            if state is not None and role in state.roles:
                if state.error and state.error != Unavailable.NOT_READ_YET:
                    raise TopicUnavailable(Unavailable(state.error))
                if state.ready and not state.error and self.is_fresh:
                    return state
            await hub.states_changed()

    async def _ask(self, name: str, role: Role) -> None:
        """Ask the writer for a topic that no configuration names, and say from time to time that it is still used."""
        known = self.config.topics.get(name)
        if known is not None and role in known.roles:
            return
        now = time.time()
        if now - self._asked.get((name, role), 0) < min(_WANT_SECONDS, self.limits.topic_idle / 3):
            return
        if (name, role) not in self._asked and len(self.store.interest()) >= self.limits.max_topics:
            raise TopicUnavailable(Unavailable.TOO_MANY_TOPICS)
        await asyncio.wrap_future(self._errands.submit(lambda store: store.note_interest(name, frozenset({role}), now)))
        if len(self._asked) > 4 * self.limits.max_topics:
            self._asked.clear()
        self._asked[name, role] = now
        if self.ingest is not None:
            self.ingest.nudge()
        self._wake_socket.wake_others()

    def keep(self, name: str, role: Role) -> None:
        """Say that a topic is still used: a stream asks for it once and stays."""
        if name not in self.config.topics and not self._closed.is_set():
            self._note_use(name, role)

    def look_again(self) -> None:
        """Have Kafka asked about the topics now, not at the next turn, by the process that writes."""
        if self.ingest is not None and self.ingest.writing:
            self.ingest.look_again()
        elif not self._closed.is_set() and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._errands.submit(self._ask_to_look)

    def _ask_to_look(self, store: Store) -> None:
        store.ask_to_look()
        self._wake_socket.wake_others()

    async def _see_own_writes(self, name: str, state: TopicState) -> None:
        """Wait, for a moment, until the store holds what this process produced: clients read what they wrote."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OWN_WRITES_SECONDS):
                with self.hub().change(name) as changed:
                    while name in self._own_writes and not self._has_own_writes(name, state):
                        await changed.wait()
                        changed.clear()

    def _has_own_writes(self, name: str, state: TopicState) -> bool:
        marks = self._own_writes[name]
        if self._reaches(state, marks):
            del self._own_writes[name]
            return True
        return False

    def hub(self) -> Hub:
        """Return the waiters of the running event loop."""
        loop = asyncio.get_running_loop()
        hub = self._hubs.get(loop)
        if hub is None:
            headers, merges = self.config.correlation_headers, self.limits.max_merges
            hub = Hub(loop, self.store, lambda: self._topics, headers, max(merges, 1))
            self._hubs = {**self._hubs, loop: hub}
            hub.move(self.store)  # it may have become another one meanwhile
        return hub

    def topics(self) -> Mapping[str, TopicState]:
        """Return what is known of every topic."""
        return self._topics

    # Waking

    def _dispatch_early(self, topic: str, records: Sequence[Record]) -> None:
        """Hand replies to who waits here, without the way through the store; called by the writer's thread."""
        for hub in self._hubs.values():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                hub.dispatch_early(topic, records)

    def _committed(self) -> None:
        """Tell this process and the others that the store has more; called by the writer's thread."""
        self._wake_here()
        self._wake_socket.wake_others()

    def _wake_here(self) -> None:
        changed = self._refresh_topics()
        self._renew_stamps()
        if changed:
            self._in_loops(Hub.topics_changed)
        for hub in self._hubs.values():
            with contextlib.suppress(RuntimeError):
                hub.wake()

    def _in_loops(self, call: Callable[[Hub], None]) -> None:
        for loop, hub in list(self._hubs.items()):
            try:
                loop.call_soon_threadsafe(call, hub)
            except RuntimeError:  # the loop is closed
                self._hubs = {each: other for each, other in self._hubs.items() if each is not loop}

    def _renew_stamps(self) -> None:
        for name in list(self.stamps):
            state = self._topics.get(name)
            seen = (state, self.store.progress(state.key)) if state is not None else None
            if self._stamped.get(name) != seen:
                self._stamped[name] = seen
                self.stamps.pop(name, None)

    def _refresh_topics(self) -> bool:
        with self._topics_lock:  # else the one who read first might be the last to say what it read
            version = self.store.topics_version()
            if version == self._topics_version:
                return False
            self._topics_version = version
            beat = self.store.heartbeat()
            is_ours = beat is None or beat.servers == self.servers
            known = {name: self._served(each, is_ours=is_ours) for name, each in self.store.topics().items()}
            before, self._topics = self._topics, known
            for name in list(self._own_writes):
                if name in before and before[name].key != (self._topics[name].key if name in self._topics else b""):
                    self._own_writes.pop(name, None)  # of a topic that is no more
            return True

    def _served(self, state: TopicState, *, is_ours: bool) -> TopicState:
        """Return a topic as this process may serve it: not ready if the store was written from other servers (``is_ours``).

        What another writer called ready, and the present one has yet to confirm, is ready here only if it was served here. Then
        it goes on being served while Kafka does not answer, as everything that is ready does.
        """
        if not state.ready or (state.confirmed and is_ours):
            return state
        known = self._topics.get(state.name)
        if not (is_ours and known is not None and known.ready and known.key == state.key):
            return replace(state, ready=False)
        return replace(state, error="") if state.error == Unavailable.UNREACHABLE else state

    def _listen(self) -> None:
        seen = 0
        while not self._closed.is_set():
            woken = self._wake_socket.wait(_LOOK_SECONDS if self.is_fresh else _LOOK_SOON_SECONDS)
            if self._closed.is_set():
                return
            try:
                if self._look():
                    seen, woken = 0, True
                # A datagram may not reach us (another container, another temporary folder): the store tells by itself.
                seen, before = self.store.transaction(), seen
                if not woken and seen == before:
                    continue
                if self.ingest is not None and self.ingest.writing:
                    self.ingest.nudge()
                self._wake_here()
            except Exception:
                # Whatever it was, a thread that died would leave this process with what it has read until now.
                log.exception("store_look_failed cluster=%s", self.config.name)
                self._closed.wait(_LOOK_SECONDS)

    def _look(self) -> bool:
        """Look whether the store can be served; return whether it is another one now."""
        was_fresh = self.is_fresh
        is_moved = not self.watch.look()
        if is_moved:
            self._move()
        if is_moved or (self.is_fresh and not was_fresh):
            self._in_loops(Hub.topics_changed)
        return is_moved

    def _move(self) -> None:
        """Go on with the generation of the store that is current now. Whatever waits or streams here stays."""
        store = Store(self.store.folder, self.limits.store_max_bytes)
        doubt(store, self.servers, self.limits.writer_timeout)
        left = [(self.store, self.ingest)]
        with self._topics_lock:
            self.store = store
            self._topics_version = b""
            self._topics = {name: replace(state, ready=False) for name, state in self._topics.items()}
        self.watch = StoreWatch(self.config.name, store, self.limits)
        self._asked.clear()
        self.stamps.clear()
        self._in_loops(lambda hub: hub.move(store))
        self._errands.move(store)
        with self._ingest_lock:
            self.ingest = self._new_ingest()
            if self.ingest is not None:
                self.ingest.start()
        log.info("store_moved cluster=%s path=%s pid=%s", self.config.name, store.path, os.getpid())
        leaving = threading.Thread(target=_leave, args=(left,), name=f"kafkaproxy-leave-{self.config.name}", daemon=True)
        leaving.start()
        self._leaving = [*(each for each in self._leaving if each.is_alive()), leaving]


def _leave(left: list[tuple[Store, Ingest | None]]) -> None:
    """End what reads into a former generation. It may be in the middle of a transaction, and requests may read from it."""
    store, ingest = left.pop()
    if ingest is not None:
        ingest.close(_LEAVING_SECONDS)
    store.close(may_be_in_use=True)
    # An ingest refers to itself. Until it is collected its store stays open, and takes room on the disk.
    del store, ingest
    gc.collect()
