"""Ingest: Kafka → store, in the one process of the host that holds the lock.

A coordinator thread decides what is read: it compares what configuration and requests want with what Kafka says of the topics.
Reader threads, each with a consumer of its own, bring records: one for topics that are live, one for topics that are being
caught up, so that a big topic does not hold up the others, and one for what is read again for an added role. Partitions are
assigned, never subscribed in a group. Progress is committed with the records it counts, so a process that dies at any instant
is continued exactly where it was.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import lmdb
from confluent_kafka import KafkaError

from kafkaproxy.worker.errors import Unavailable
from kafkaproxy.worker.ingest.metadata_poller import MetadataPoller, TopicInfo
from kafkaproxy.worker.ingest.reading import Reading
from kafkaproxy.worker.ingest.topic_interest import topic_interest
from kafkaproxy.worker.kafka.client import Limits, admin_config, consumer_config
from kafkaproxy.worker.kafka.log_rate_limit import librdkafka_log
from kafkaproxy.worker.store.capacity import is_full
from kafkaproxy.worker.store.reader import Progress, Store, TopicState
from kafkaproxy.worker.store.retention import Retention
from kafkaproxy.worker.store.writer import StoreWriter
from kafkaproxy.worker.store.writer_lock import WriterLock, mark
from kafkaproxy.worker.types import ClusterConfig, Record, Role, TopicSettings

__all__ = ["Ingest"]

log = logging.getLogger("kafkaproxy.ingest")

_WANTED_SECONDS: Final = 1.0
_BEAT_SECONDS: Final = 0.9
_LOCK_SECONDS: Final = 0.5
_FAILED_SECONDS: Final = 2.0
_GARBAGE_SECONDS: Final = 0.002
"""Between two steps of dropping what no topic refers to, so that records are written in between."""
_PASSING: Final = (Unavailable.UNREACHABLE, Unavailable.NOT_READ_YET)


class Ingest:
    """The writer's side of a cluster.

    ``dispatch_early`` is called with a reply topic's records before they are committed, ``wake`` after commits; both from
    threads of the writer. What several threads use is guarded by one mutex, which is held for a step of a few milliseconds at
    the most.
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
        self._retention = Retention(cluster.name, store, self._budget)
        self._reading = self._new_reading()
        self._garbage: deque[bytes] = deque()
        """Keys of topics whose data is dropped a step at a time."""
        self._poller: MetadataPoller | None = None
        self._look = b""
        """What another process last said when it asked to look at the topics."""
        self._next_beat = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kafkaproxy-ingest-{cluster.name}", daemon=True)

    def start(self) -> None:
        """Start; the thread waits for the lock if another process has it."""
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
        """Take over the topics of a new configuration."""
        self._topics = cluster.topics
        self._commands.put(self._compare_interest)

    def nudge(self) -> None:
        """Look at what requests want, now."""
        self._commands.put(self._compare_interest)

    def look_again(self) -> None:
        """Ask Kafka about the topics now; from any thread. Does nothing where another process is the writer."""
        self._reading.look()
        self._kick()

    def _kick(self) -> None:
        watcher = self._poller
        if watcher is not None:
            watcher.kick()

    def close(self, seconds: float) -> bool:
        """Stop, sync the store, free the lock; return whether that was done within the time."""
        self._closed.set()
        self._commands.put(lambda: None)
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if self._lock.acquire():
                    self._write()
            except Exception:
                # Whatever it was, a thread that died would leave the store without a writer for good.
                log.exception("ingest_failed cluster=%s", self._cluster.name)
                self._closed.wait(_FAILED_SECONDS)
            finally:
                self._stop_clients()
                self._lock.release()
            self._closed.wait(_LOCK_SECONDS)

    def _write(self) -> None:
        """Be the writer until closed."""
        log.info("ingest_started cluster=%s", self._cluster.name)
        mark(self._store.folder, clean=False)
        self._commands = queue.SimpleQueue()  # what the readers and the watcher of before had to say is void
        self._reading = self._new_reading()
        self._reading.states = self._writer.begin(os.urandom(8), self._servers)
        self._next_beat = 0.0
        self._beat()  # after begin(): before, what only a dead writer called ready might be served
        self._wake()
        self._retention.begin()
        self._garbage = deque(self._writer.leftovers(self._reading.states.values()))
        self._poller = MetadataPoller(
            self._cluster.name,
            admin_config(self._cluster, self._servers),
            min(self._limits.metadata_interval, self._limits.retention_interval),
            lambda cluster_id, infos: self._commands.put(lambda: self._learn(cluster_id, infos)),
            embedded=self._cluster.embedded,
        )
        self._poller.start()
        next_look = 0.0
        while not self._closed.is_set():
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + _WANTED_SECONDS
                self._look_around()
            self._beat()
            self._drop_garbage()
            self._obey(_GARBAGE_SECONDS if self._garbage else max(next_look - time.monotonic(), 0))
        self._stop_clients()
        self._store.env.sync(True)
        if self._store.is_current:  # else another process writes, and says when its store is clean
            mark(self._store.folder, clean=True)

    def _new_reading(self) -> Reading:
        return Reading(
            self._cluster.name,
            {**consumer_config(self._cluster, self._servers), "error_cb": self._on_error},
            self._store,
            self._writer,
            self._retention,
            dispatch_early=self._dispatch_early,
            wake=self._wake,
            kick=self._kick,
            post=self._commands.put,
        )

    def _look_around(self) -> None:
        """Do what is due once a second."""
        self._compare_interest()
        self._keep_room()
        self._reading.balance()
        # A process that was killed while it read the store would hold on to every page that was in use then.
        self._store.env.reader_check()

    def _beat(self) -> None:
        """Write a heartbeat if it is due: without one for long, another process takes this one's place."""
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + _BEAT_SECONDS
        try:
            self._writer.beat(self._servers)
        except lmdb.Error as error:
            if not is_full(error):
                raise

    def _obey(self, seconds: float) -> None:
        """Run commands, waiting up to ``seconds`` for the first."""
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

    # What is wanted

    def _compare_interest(self) -> None:
        """Compare what configuration and requests want with what is read; look where another process asked to."""
        if self._poller is None:
            return
        look, self._look = self._look, self._store.asked_to_look()
        if look != self._look:
            self.look_again()
        wanted = self._wanted()
        with self._reading.mutex:
            states = self._reading.states
            if unwanted := [states.pop(name) for name in states.keys() - wanted.keys()]:
                for state in unwanted:
                    self._reading.drop(state.name)
                self._writer.forget(unwanted)
                self._garbage.extend(state.key for state in unwanted if state.id)
                self._wake()
        self._poller.watch(wanted)

    def _wanted(self) -> dict[str, frozenset[Role]]:
        return topic_interest(self._topics, self._store, self._writer, self._limits)

    def _drop_garbage(self) -> None:
        """Drop one step of what no topic refers to."""
        if self._garbage and not self._writer.drop_some(self._garbage[0]):
            self._garbage.popleft()

    def _keep_room(self) -> None:
        """Remove what streamed topics hold over their budget, a step at a time; resume what was stopped."""
        reading = self._reading
        self._retention.look(len(reading.states))
        for name, state in list(reading.states.items()):
            while reading.states.get(name) is state:
                with reading.mutex:
                    if not self._retention.shrink(state):
                        break
                self._beat()
                self._obey(0)
        with reading.mutex:
            resumed = self._retention.next_to_resume(reading.states)
            if resumed is not None:
                log.info("store_has_room cluster=%s topic=%s", self._cluster.name, resumed)
                reading.set_state(replace(reading.states[resumed], error=""))
                self._wake()
                self.look_again()

    def _budget(self, name: str) -> int:
        given = self._settings(name).store_bytes
        return self._limits.stream_store_bytes if given is None else given

    # What the cluster says

    def _learn(self, cluster_id: str, infos: list[TopicInfo]) -> None:
        changed = self._forget_other_cluster(cluster_id)
        wanted = self._wanted()
        for info in infos:
            self._beat()
            if info.name in wanted:
                changed |= self._learn_topic(info, wanted[info.name])
        if changed:
            self._wake()

    def _forget_other_cluster(self, cluster_id: str) -> bool:
        """Drop what another cluster left in the store: its topics may have the names of ours, and copies even the ids."""
        reading = self._reading
        with reading.mutex:
            if not cluster_id or not self._writer.adopt(cluster_id):
                return False
            log.warning("store_of_another_cluster cluster=%s", self._cluster.name)
            for name in reading.states:
                reading.drop(name)
            reading.states.clear()
            self._garbage.clear()
        return True

    def _learn_topic(self, info: TopicInfo, roles: frozenset[Role]) -> bool:
        """Bring what is read in step with what the cluster says; return whether anything changed for readers."""
        reading = self._reading
        state = reading.states.get(info.name)
        if info.error is not None:
            with reading.mutex:
                return self._learn_error(info, info.error, state, roles)
        if state is None or state.id != info.id:
            self._begin_topic(info, roles, state)
            return True
        known = self._store.progress(state.key)
        with reading.mutex:
            is_cut = self._is_cut_short(info, known)
        if is_cut or self._is_broken(info, state, known):
            self._begin_topic(info, roles | state.roles, state, is_cut=is_cut)
            return True
        trimmed = self._trim(info, state, known)
        with reading.mutex:
            changed = self._follow(info, reading.states[info.name], known)
            return reading.add_roles(info.name, roles) or changed or trimmed

    def _learn_error(self, info: TopicInfo, error: Unavailable, state: TopicState | None, roles: frozenset[Role]) -> bool:
        is_served = state is not None and state.ready and state.confirmed
        if error in _PASSING and state is not None and state.id and (is_served or error is Unavailable.NOT_READ_YET):
            return False  # what the store has is still what Kafka last said
        if info.is_refused:
            error = Unavailable.NOT_AUTHORIZED
        if state is not None and error is Unavailable.UNKNOWN_TOPIC:
            self._reading.drop(info.name)
        new = (
            replace(state, error=str(error)) if state is not None else TopicState(name=info.name, roles=roles, error=str(error))
        )
        if new == state:
            return False
        log.warning("topic_unavailable cluster=%s topic=%s reason=%s", self._cluster.name, info.name, error)
        self._reading.set_state(new)
        return True

    def _begin_topic(self, info: TopicInfo, roles: frozenset[Role], old: TopicState | None, *, is_cut: bool = False) -> None:
        """Read a topic from its start: it is new, it was re-created or cut short, or what is held of it is no use."""
        settings = self._settings(info.name)
        cuts = old.cuts + is_cut if old is not None and old.id == info.id else 0
        state = TopicState(name=info.name, id=info.id, partitions=info.partitions, roles=roles, cuts=cuts)
        state = replace(state, compacted=self._compacted(info, state))
        starts = info.latest if settings.live else info.earliest
        reading = self._reading
        with reading.mutex:
            if old is not None:
                log.info("topic_restarted cluster=%s topic=%s recreated=%s", self._cluster.name, info.name, old.id != info.id)
                reading.drop(info.name)
                if old.id and old.key != state.key:
                    self._garbage.append(old.key)
            reading.set_state(state)
            self._wake()  # before anything is dropped, so that what is left is not taken for all there is
        # Not under the mutex, as it may take long. No reader writes to the topic, for none reads it.
        self._garbage = deque(key for key in self._garbage if key != state.key)
        while self._writer.drop_some(state.key):
            self._beat()
        with reading.mutex:
            self._writer.start(state, starts, info.earliest)
            reading.read(state, starts, info.latest)

    def _is_cut_short(self, info: TopicInfo, known: Mapping[int, Progress]) -> bool:
        positions = {partition: progress.next_offset for partition, progress in known.items()}
        if not self._reading.assignment.is_cut_short(info.name, positions, info.earliest, info.asked):
            return False
        log.error("topic_truncated cluster=%s topic=%s", self._cluster.name, info.name)
        return True

    def _is_broken(self, info: TopicInfo, state: TopicState, known: Mapping[int, Progress]) -> bool:
        """True if what the store holds cannot be gone on from."""
        # No progress: a writer died while it dropped the data. No longer compacted: superseded records were let go, and count.
        return not known or (state.compacted and not self._compacted(info, state))

    def _trim(self, info: TopicInfo, state: TopicState, known: Mapping[int, Progress]) -> bool:
        """Remove what retention has passed; return True if there was anything. Not under the mutex, as it may take long."""
        trimmed = [each for each, progress in known.items() if info.earliest.get(each, 0) > progress.log_start]
        for partition in trimmed:
            while not self._writer.trim_some(state, partition, info.earliest[partition]):
                self._beat()
            with self._reading.mutex:
                self._reading.backfills.again(info.name, partition, info.earliest[partition])
                self._reading.note_positions({info.name: {partition: info.earliest[partition]}})
        return bool(trimmed)

    def _follow(self, info: TopicInfo, state: TopicState, known: Mapping[int, Progress]) -> bool:
        """Follow new partitions and a changed policy; return True if readers of the store see a change."""
        new = {partition: info.earliest[partition] for partition in range(info.partitions) if partition not in known}
        changed = replace(
            state,
            partitions=info.partitions,
            compacted=self._compacted(info, state),
            error=self._trouble(info.name),
        )
        if new:
            self._writer.start(changed, new, info.earliest)
        elif changed != state:
            self._writer.put_states([changed])
        reading = self._reading
        reading.states[info.name] = changed
        if changed.error != Unavailable.STORE_FULL:
            positions = self._store.next_offsets(changed.key)
            reading.read(changed, reading.assignment.missing(info.name, positions, info.asked), info.latest)
        return reading.states[info.name] != state

    def _trouble(self, name: str) -> str:
        """Return why a topic that Kafka tells of is not read; empty if it is."""
        if name in self._retention.stopped:
            return str(Unavailable.STORE_FULL)
        return str(Unavailable.NOT_AUTHORIZED) if self._reading.assignment.is_denied(name) else ""

    def _settings(self, name: str) -> TopicSettings:
        return self._topics.get(name) or TopicSettings()

    def _compacted(self, info: TopicInfo, state: TopicState) -> bool:
        """True if the newest record of a key is all that counts; what was known stays where Kafka does not say."""
        policy = self._settings(info.name).cleanup_policy or info.policy
        return state.compacted if policy is None else "compact" in policy

    def _on_error(self, error: KafkaError) -> None:
        librdkafka_log.warning("consumer_error cluster=%s error=%s", self._cluster.name, error.name())
