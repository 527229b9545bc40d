"""Ingest: Kafka → store. One consumer for all topics of a cluster, in the one process of the host that holds the lock.

Partitions are assigned, never subscribed in a group. Progress is committed with the records it counts, so a process that
dies at any instant is continued exactly where it was.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message

from kafkaproxy.worker.assignment import Assignment
from kafkaproxy.worker.client import Limits, admin_config, consumer_config
from kafkaproxy.worker.errors import Unavailable
from kafkaproxy.worker.lock import WriterLock, mark
from kafkaproxy.worker.messages import to_record
from kafkaproxy.worker.repeats import librdkafka_log
from kafkaproxy.worker.room import is_of_disk
from kafkaproxy.worker.steward import Steward
from kafkaproxy.worker.store import Progress, Store, TopicState
from kafkaproxy.worker.types import ClusterConfig, Record, Role, TopicSettings
from kafkaproxy.worker.wanted import wanted_topics
from kafkaproxy.worker.watcher import TopicInfo, Watcher
from kafkaproxy.worker.writing import Batch, StoreWriter

__all__ = ["Ingest"]

log = logging.getLogger("kafkaproxy.ingest")

_BATCH: Final = 2000
_IDLE: Final = 0.05
_WANTED_SECONDS: Final = 1.0
_LOCK_SECONDS: Final = 0.5
_FAILED_SECONDS: Final = 2.0
_KICKING: Final = (
    *(KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION),  # noqa: SLF001
    *(KafkaError._AUTO_OFFSET_RESET, KafkaError.TOPIC_AUTHORIZATION_FAILED),  # noqa: SLF001
)
"""What the watcher is asked about at once: where the log is now, and whether the topic is there."""
_PASSING: Final = (Unavailable.UNREACHABLE, Unavailable.NOT_READ_YET)


class Ingest:
    """The writer's side of a cluster.

    ``offer`` is called with a reply topic's records before they are committed, ``wake`` after every commit; both from its
    thread.
    """

    def __init__(
        self,
        cluster: ClusterConfig,
        servers: str,
        store: Store,
        limits: Limits,
        wake: Callable[[], None],
        offer: Callable[[str, Sequence[Record]], None],
    ) -> None:
        self._cluster = cluster
        self._servers = servers
        self._store = store
        self._limits = limits
        self._wake = wake
        self._offer = offer
        self._topics: Mapping[str, TopicSettings] = cluster.topics
        self._lock = WriterLock(store.path)
        self._writer = StoreWriter(store, cluster.correlation_headers)
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._states: dict[str, TopicState] = {}
        self._consumer: Any = None
        self._reading: Any = None
        """The :class:`Assignment` of the consumer."""
        self._watcher: Watcher | None = None
        self._steward = Steward(cluster.name, store, self._budget)
        self._refused = False
        """Whether a broker would not let us in."""
        self._look = b""
        """What another process last said when it asked to look at the topics."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kafkaproxy-ingest-{cluster.name}", daemon=True)

    def start(self) -> None:
        """Start; the thread waits for the lock if another process has it."""
        self._thread.start()

    @property
    def writing(self) -> bool:
        """Whether this process is the writer."""
        return self._lock.held

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def configure(self, cluster: ClusterConfig) -> None:
        """Take over the topics of a new configuration."""
        self._topics = cluster.topics
        self._commands.put(self._rewant)

    def nudge(self) -> None:
        """Look at what requests want, now."""
        self._commands.put(self._rewant)

    def look_again(self) -> None:
        """Ask Kafka about the topics now; from any thread. Does nothing where another process is the writer."""
        watcher = self._watcher
        if watcher is not None:
            watcher.kick()

    def close(self) -> None:
        """Stop, sync the store, free the lock."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

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
        self._states = self._writer.begin(os.urandom(8))
        self._writer.beat(self._servers)  # after begin(): before, what only a dead writer called ready might be served
        self._steward.begin()
        self._writer.sweep(self._states.values())
        self._consumer = Consumer({**consumer_config(self._cluster, self._servers), "error_cb": self._on_error})
        self._reading = Assignment(self._cluster.name, self._consumer)
        self._watcher = Watcher(
            self._cluster.name,
            admin_config(self._cluster, self._servers),
            min(self._limits.metadata_interval, self._limits.retention_interval),
            lambda cluster_id, infos: self._commands.put(lambda: self._learn(cluster_id, infos)),
            embedded=self._cluster.embedded,
        )
        self._watcher.start()
        self._rewant()
        next_look = 0.0
        while not self._closed.is_set():
            self._obey()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + _WANTED_SECONDS
                self._writer.beat(self._servers)
                self._rewant()
                self._keep_room()
                # A reader that was killed would hold on to every page that was in use then.
                self._store.env.reader_check()
            self._poll()
        self._store.env.sync(True)
        if self._store.is_current:  # else another process writes, and says when its store is clean
            mark(self._store.folder, clean=True)

    def _obey(self) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            command()

    def _stop_clients(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    # What is wanted

    def _rewant(self) -> None:
        """Compare what configuration and requests want with what is read; look where another process asked to."""
        if self._watcher is None:
            return
        look, self._look = self._look, self._store.asked_to_look()
        if look != self._look:
            self._watcher.kick()
        wanted = self._wanted()
        if unwanted := [self._states.pop(name) for name in self._states.keys() - wanted.keys()]:
            for state in unwanted:
                self._reading.drop(state.name)
            self._writer.forget(unwanted)
            self._wake()
            for state in unwanted:
                self._writer.drop_data(state.key)
        self._watcher.watch(wanted)

    def _wanted(self) -> dict[str, frozenset[Role]]:
        return wanted_topics(self._topics, self._store, self._writer, self._limits)

    def _keep_room(self) -> None:
        """Let go of what streamed topics hold over their budget, a step at a time between polls; resume what was stopped."""
        self._steward.look(len(self._states))
        for name, state in list(self._states.items()):
            while self._states.get(name) is state and self._steward.shrink(state):
                self._obey()
        resumed = self._steward.next_to_resume(self._states)
        if resumed is not None:
            self._resume(resumed)

    def _budget(self, name: str) -> int:
        given = self._settings(name).store_bytes
        return self._limits.stream_store_bytes if given is None else given

    def _resume(self, name: str) -> None:
        log.info("store_has_room cluster=%s topic=%s", self._cluster.name, name)
        self._set_state(replace(self._states[name], error=""))
        self._catch_up(self._states[name])
        self._wake()

    def _stop(self, name: str, reason: Exception) -> None:
        """Read a topic no longer: there is no room for it. The others go on."""
        what_to_do = "free the disk" if is_of_disk(reason) else "raise KAFKAPROXY['STORE_MAX_BYTES']"
        log.error("store_full cluster=%s topic=%s: %s", self._cluster.name, name, what_to_do)
        self._steward.stop(name)
        self._reading.drop(name)
        self._set_state(replace(self._states[name], ready=False, error=str(Unavailable.STORE_FULL)))

    # What the cluster says

    def _learn(self, cluster_id: str, infos: list[TopicInfo]) -> None:
        changed = self._forget_other_cluster(cluster_id)
        wanted = self._wanted()
        for info in infos:
            if info.name in wanted:
                changed |= self._learn_topic(info, wanted[info.name])
        if changed:
            self._wake()

    def _forget_other_cluster(self, cluster_id: str) -> bool:
        """Drop what another cluster left in the store: its topics may have the names of ours, and copies even the ids."""
        if not cluster_id or not self._writer.adopt(cluster_id):
            return False
        log.warning("store_of_another_cluster cluster=%s", self._cluster.name)
        for name in self._states:
            self._reading.drop(name)
        self._states.clear()
        return True

    def _learn_topic(self, info: TopicInfo, roles: frozenset[Role]) -> bool:
        """Bring what is read in step with what the cluster says; return whether anything changed for readers."""
        state = self._states.get(info.name)
        if info.error is not None:
            return self._learn_error(info, info.error, state, roles)
        self._refused = False
        if state is None or state.id != info.id or not roles <= state.roles:
            self._begin_topic(info, roles, state)
            return True
        return self._follow(info, state)

    def _learn_error(self, info: TopicInfo, error: Unavailable, state: TopicState | None, roles: frozenset[Role]) -> bool:
        if error in _PASSING and state is not None and state.id and (state.ready or error is Unavailable.NOT_READ_YET):
            return False  # what the store has is still what Kafka last said
        if error is Unavailable.UNREACHABLE and self._refused:
            error = Unavailable.NOT_AUTHORIZED
        if state is not None and error is Unavailable.UNKNOWN_TOPIC:
            self._reading.drop(info.name)
        new = (
            replace(state, error=str(error)) if state is not None else TopicState(name=info.name, roles=roles, error=str(error))
        )
        if new == state:
            return False
        log.warning("topic_unavailable cluster=%s topic=%s reason=%s", self._cluster.name, info.name, error)
        self._set_state(new)
        return True

    def _begin_topic(self, info: TopicInfo, roles: frozenset[Role], old: TopicState | None, *, is_cut: bool = False) -> None:
        """Read a topic from its start: it is new, it was re-created or cut short, or it is read for more than before."""
        if old is not None:
            log.info("topic_restarted cluster=%s topic=%s recreated=%s", self._cluster.name, info.name, old.id != info.id)
            self._reading.drop(info.name)
        settings = self._settings(info.name)
        cuts = old.cuts + is_cut if old is not None and old.id == info.id else 0
        state = TopicState(name=info.name, id=info.id, partitions=info.partitions, roles=roles, cuts=cuts)
        state = replace(state, compacted=self._compacted(info, state))
        starts = info.latest if settings.live else info.earliest
        self._set_state(state)
        self._wake()  # before anything is dropped: nobody may take what is left for all there is
        for topic_id in {state.key, old.key if old is not None else b""}:
            self._writer.drop_data(topic_id)
        self._writer.start(state, starts, info.earliest)
        self._reading.add(state, starts)

    def _follow(self, info: TopicInfo, state: TopicState) -> bool:
        """Follow retention, truncation, new partitions and a changed policy; return whether readers see a change."""
        known = self._store.progress(state.key)
        positions = {partition: progress.next_offset for partition, progress in known.items()}
        is_cut = self._reading.is_cut_short(info.name, positions, info.earliest, info.asked)
        if is_cut:
            log.error("topic_truncated cluster=%s topic=%s", self._cluster.name, info.name)
        if is_cut or self._is_broken(info, state, known):
            self._begin_topic(info, state.roles, state, is_cut=is_cut)
            return True
        trimmed = [p for p, progress in known.items() if info.earliest.get(p, 0) > progress.log_start]
        for partition in trimmed:
            self._writer.trim(state, partition, info.earliest[partition])
        new = {partition: info.earliest[partition] for partition in range(info.partitions) if partition not in known}
        changed = replace(
            state, partitions=info.partitions, compacted=self._compacted(info, state), error=self._trouble(info.name)
        )
        if new:
            self._writer.start(changed, new, info.earliest)
        elif changed != state:
            self._writer.put_states([changed])
        self._states[info.name] = changed
        if changed.error != Unavailable.STORE_FULL:
            self._catch_up(changed, info.asked)
        return bool(trimmed) or changed != state

    def _trouble(self, name: str) -> str:
        """Return why a topic that Kafka tells of is not read; empty if it is."""
        if name in self._steward.stopped:
            return str(Unavailable.STORE_FULL)
        return str(Unavailable.NOT_AUTHORIZED) if self._reading.is_denied(name) else ""

    def _is_broken(self, info: TopicInfo, state: TopicState, known: Mapping[int, Progress]) -> bool:
        """Whether what the store holds cannot be gone on from."""
        # No progress: a writer died while it dropped the data. No longer compacted: superseded records were let go, and count.
        return not known or (state.compacted and not self._compacted(info, state))

    def _catch_up(self, state: TopicState, asked: float = math.inf) -> None:
        """Assign every partition that is not being read, from where the store is; ``asked``: when Kafka said where logs are."""
        missing = self._reading.missing(state.name, self._store.next_offsets(state.key), asked)
        if missing:
            self._reading.add(state, missing)

    def _settings(self, name: str) -> TopicSettings:
        return self._topics.get(name) or TopicSettings()

    def _compacted(self, info: TopicInfo, state: TopicState) -> bool:
        """Whether the newest record of a key is all that counts; what was known stays where nobody says."""
        policy = self._settings(info.name).cleanup_policy or info.policy
        return state.compacted if policy is None else "compact" in policy

    def _set_state(self, state: TopicState) -> None:
        self._states[state.name] = state
        self._writer.put_states([state])

    # What arrives

    def _poll(self) -> None:
        first = self._consumer.poll(_IDLE)
        if first is None:
            return
        # Waiting for a full batch would cost latency: take what is there.
        messages = [first, *self._consumer.consume(_BATCH, 0)]
        batches: dict[str, Batch] = {}
        ends: list[tuple[str, int]] = []
        for message in messages:
            self._sort(message, batches, ends)
        for name, batch in batches.items():
            if batch.records and Role.REPLY in self._states[name].roles:
                self._offer(name, batch.records)
        if batches:
            written = self._commit(batches)
            self._note_ends([at for at in ends if at[0] in written])
            self._wake()

    def _sort(self, message: Message, batches: dict[str, Batch], ends: list[tuple[str, int]]) -> None:
        name, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        if name not in self._states or (name, partition) not in self._reading:
            return  # what an assignment that has ended had still fetched
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._reading.note_error(name, partition, error)
            if error.code() in _KICKING and self._watcher is not None:
                self._watcher.kick()
            return
        self._reading.note_progress(name)
        if error is None:
            batch = batches.setdefault(name, Batch([], {}))
            batch.records.append(to_record(message))
        else:
            batches.setdefault(name, Batch([], {})).reached[partition] = offset
            ends.append((name, partition))

    def _commit(self, batches: dict[str, Batch]) -> Collection[str]:
        """Write; return the topics that were written. Those for which there is no room are stopped, and only those."""
        refused = self._steward.write(self._writer, batches, self._states)
        for name, reason in refused.items():
            self._stop(name, reason)
        return batches.keys() - refused.keys()

    def _note_ends(self, ends: list[tuple[str, int]]) -> None:
        for name, partition in ends:
            if self._reading.has_reached_end(name, partition):
                self._set_state(replace(self._states[name], ready=True))

    def _on_error(self, error: KafkaError) -> None:
        self._refused |= error.code() == KafkaError._AUTHENTICATION  # noqa: SLF001
        librdkafka_log.warning("consumer_error cluster=%s error=%s", self._cluster.name, error.name())
