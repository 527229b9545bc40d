"""What the writer reads, and how far: the topics with their states, the readers, and what they bring.

Public methods are called by the coordinator (:mod:`kafkaproxy.worker.ingest.coordinator`); what arrives comes from the
readers' threads. One mutex guards it all. It is held for a step of a few milliseconds at the most, so that no topic waits long
for another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from confluent_kafka import KafkaError, Message

from kafkaproxy.worker.errors import Unavailable
from kafkaproxy.worker.ingest.assignment import Assignment
from kafkaproxy.worker.ingest.backfill import Backfills
from kafkaproxy.worker.ingest.reader import Reader
from kafkaproxy.worker.ingest.targets import Targets
from kafkaproxy.worker.kafka.messages import to_record
from kafkaproxy.worker.store.capacity import is_of_disk
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.retention import Retention
from kafkaproxy.worker.store.writer import Batch, StoreWriter
from kafkaproxy.worker.types import Record, Role

__all__ = ["Reading"]

log = logging.getLogger("kafkaproxy.ingest")

_LOOK_SECONDS: Final = 3.0
"""How long the statistics of consumers are read after a request asked to look at Kafka again."""
_CATCH_UP_WAKE_SECONDS: Final = 0.05
"""How often other parts are told of what the reader of topics that are behind brings."""
_SMALL_BACKLOG: Final = 2_000
_LIVE_LAG: Final = 20_000
"""A topic that is at most so many records behind joins those that are live."""
_BULK_LAG: Final = 100_000
"""A live topic that falls so many records behind leaves them."""
_KICKING: Final = (
    *(KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION),  # noqa: SLF001
    *(KafkaError._AUTO_OFFSET_RESET, KafkaError.TOPIC_AUTHORIZATION_FAILED),  # noqa: SLF001
)
"""What Kafka is asked about at once: where the log is now, and whether the topic is there."""
ReaderName = Literal["live", "catch-up", "backfill"]


class Reading:
    """The topics that one writer reads, from when it takes over until it stops.

    ``dispatch_early`` is called with a reply topic's records before they are committed; ``wake`` after commits; ``kick`` where
    Kafka has to be asked about topics; ``post`` with what the coordinator has to do. All may be called from readers' threads.
    """

    def __init__(
        self,
        cluster: str,
        consumer_config: Mapping[str, Any],
        store: Store,
        writer: StoreWriter,
        steward: Retention,
        *,
        dispatch_early: Callable[[str, Sequence[Record]], None],
        wake: Callable[[], None],
        kick: Callable[[], None],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self.mutex = threading.RLock()
        self.states: dict[str, TopicState] = {}
        self.assignment = Assignment(cluster)
        self.backfills = Backfills()
        self._targets = Targets()
        self._cluster = cluster
        self._config = consumer_config
        self._store = store
        self._writer = writer
        self._retention = steward
        self._dispatch_early = dispatch_early
        self._wake = wake
        self._kick = kick
        self._post = post
        self._readers: dict[ReaderName, Reader] = {}
        self._looks_until = 0.0

    def close(self) -> None:
        """Stop the readers: each finishes its step."""
        readers, self._readers = list(self._readers.values()), {}
        for reader in readers:
            reader.close()

    def look(self) -> None:
        """Look at positions that no record shows, for a moment: a request waits for one. From any thread."""
        self._looks_until = time.monotonic() + _LOOK_SECONDS

    def set_state(self, state: TopicState) -> None:
        """Store what is known of a topic now."""
        self.states[state.name] = state
        self._writer.put_states([state])

    def read(self, state: TopicState, positions: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Read partitions of a topic from these positions on; ``ends``: where the partitions end at present.

        A topic that is not ready, or not confirmed, will be when it has been read up to there.
        """
        if positions:
            backlog = sum(max(ends.get(each, 0) - offset, 0) for each, offset in positions.items())
            reader = self._reader("live" if backlog <= _SMALL_BACKLOG else "catch-up")
            self.assignment.add(reader, state.name, positions)
        if not (state.ready and state.confirmed):
            self._targets.add(state.name, positions, {partition: ends.get(partition, 0) for partition in positions})

    def drop(self, name: str) -> None:
        """Read a topic no longer."""
        self.assignment.drop(name)
        self._targets.forget(name)
        self.backfills.drop(name)

    def stop(self, name: str, reason: Exception) -> None:
        """Read a topic no longer: there is no room for it. The others go on."""
        what_to_do = "free the disk" if is_of_disk(reason) else "raise KAFKAPROXY['STORE_MAX_BYTES']"
        log.error("store_full cluster=%s topic=%s: %s", self._cluster, name, what_to_do)
        self._retention.stop(name)
        self.drop(name)
        self.set_state(replace(self.states[name], ready=False, error=str(Unavailable.STORE_FULL)))

    def add_roles(self, name: str, roles: frozenset[Role]) -> bool:
        """Serve a topic for more than before, without a pause in what it serves; return whether readers see a change."""
        state = self.states[name]
        if roles <= state.roles or state.error or (name in self.backfills and roles <= state.indexed):
            return False
        log.info("topic_roles_added cluster=%s topic=%s roles=%s", self._cluster, name, sorted(roles - state.roles))
        self.backfills.drop(name)
        state = self.states[name] = self._writer.add_roles(state, roles)
        if state.building:
            known = self._store.progress(state.key)
            starts = {partition: each.log_start for partition, each in known.items()}
            ends = {partition: each.next_offset for partition, each in known.items()}
            if not self.backfills.begin(self._reader("backfill"), name, starts, ends):
                self.states[name] = self._writer.complete(state)
        return True

    def balance(self) -> None:
        """Let topics that have caught up join those that are live, and those that fell far behind leave them."""
        with self.mutex:
            behind, live = self._readers.get("catch-up"), self._readers.get("live")
            caught_up = self.assignment.topics(behind) if behind is not None else ()
            for name in caught_up:
                if behind is not None and name not in self._targets and self._lag(behind, name) <= _LIVE_LAG:
                    self._hand_over(name, "live")
            saturated = live.saturated_topics() if live is not None else ()
            for name in saturated:
                if live is not None and self.assignment.reader(name) is live and self._lag(live, name) > _BULK_LAG:
                    self._hand_over(name, "catch-up")

    def _reader(self, name: ReaderName) -> Reader:
        """Return a reader; it is started when it is first needed."""
        reader = self._readers.get(name)
        if reader is None:
            take = self._take_again if name == "backfill" else self._take
            reader = self._readers[name] = Reader(name, self._config, take, self._reader_failed, self._wants_positions)
            reader.start()
        return reader

    def _reader_failed(self, error: Exception) -> None:
        """Let the coordinator fail: the writer begins anew."""

        def fail() -> None:
            raise error

        self._post(fail)

    def _wants_positions(self, reader: Reader) -> bool:
        """True if something waits for a position, which may show in no record."""
        if time.monotonic() < self._looks_until:
            return True
        return bool(self.backfills) if reader.name == "backfill" else bool(self._targets)

    def _hand_over(self, name: str, target: ReaderName) -> None:
        log.info("topic_moved cluster=%s topic=%s reader=%s", self._cluster, name, target)
        self.assignment.move(name, self._reader(target), self._store.next_offsets(self.states[name].key))

    def _lag(self, reader: Reader, name: str) -> int:
        """Return how many offsets a topic is behind what Kafka said last."""
        positions = self._store.next_offsets(self.states[name].key)
        return sum(max(reader.high_watermark(name, each) - offset, 0) for each, offset in positions.items())

    # What arrives

    def _take(self, reader: Reader, messages: Sequence[Message]) -> None:
        """Write what a step of a reader brought; called by the reader's thread."""
        arrived = [(each, to_record(each) if each.error() is None else None) for each in messages]
        with self.mutex:
            batches: dict[str, Batch] = {}
            misplaced: dict[str, list[int]] = {}
            for message, record in arrived:
                self._sort(reader, message, record, batches, misplaced)
            for (name, partition), offset in reader.reached(is_empty=not messages).items():
                if self.assignment.has(reader, name, partition) and (name, partition) not in reader.dropped:
                    batches.setdefault(name, Batch([], {})).note(partition, offset)
            for name, batch in batches.items():
                if batch.records and Role.REPLY in self.states[name].roles:
                    self._dispatch_early(name, batch.records)
            changed = bool(batches) and self._commit(batches)
            for name, partitions in misplaced.items():
                positions = self._store.next_offsets(self.states[name].key)
                self.assignment.again(name, {partition: positions[partition] for partition in partitions})
            reader.dropped.clear()
        self._tell(reader, brought=bool(batches), at_once=changed)

    def _sort(
        self,
        reader: Reader,
        message: Message,
        record: Record | None,
        batches: dict[str, Batch],
        misplaced: dict[str, list[int]],
    ) -> None:
        name, partition = message.topic() or "", message.partition() or 0
        if name not in self.states or not self.assignment.has(reader, name, partition):
            return  # what an assignment that has ended had still fetched
        if (name, partition) in reader.dropped:  # and assigned again: this may be of before, from another place
            if partition not in misplaced.setdefault(name, []):
                misplaced[name].append(partition)
            return
        error = message.error()
        if error is None:
            assert record is not None
            self.assignment.note_progress(name)
            batches.setdefault(name, Batch([], {})).records.append(record)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self.assignment.note_progress(name)
            batches.setdefault(name, Batch([], {})).note(partition, message.offset() or 0)
        else:
            self._note_error(name, partition, error)

    def _note_error(self, name: str, partition: int, error: KafkaError) -> None:
        self.assignment.note_error(name, partition, error)
        if error.code() in _KICKING:
            self._kick()

    def _commit(self, batches: Mapping[str, Batch]) -> bool:
        """Write; return True if a topic became ready. Topics for which there is no room are stopped, and only those."""
        refused = self._retention.write(self._writer.apply, batches, self.states)
        for name, reason in refused.items():
            self.stop(name, reason)
        written = {name: batch.positions() for name, batch in batches.items() if name not in refused}
        return self.note_positions(written) or bool(refused)

    def note_positions(self, positions: Mapping[str, Mapping[int, int]]) -> bool:
        """Note how far topics were read; return True if one of them became ready."""
        ready = [name for name, reached in positions.items() if self._targets.reach(name, reached)]
        for name in ready:
            log.info("topic_ready cluster=%s topic=%s", self._cluster, name)
            self.set_state(replace(self.states[name], ready=True, confirmed=True))
            self._post(self.balance)
        return bool(ready)

    def _tell(self, reader: Reader, *, brought: bool, at_once: bool) -> None:
        """Wake those who follow topics. What is behind brings many steps: it wakes them less often."""
        reader.owes_wake |= brought
        if reader.owes_wake or at_once:
            now = time.monotonic()
            if at_once or not brought or reader.name == "live" or now - reader.last_wake >= _CATCH_UP_WAKE_SECONDS:
                reader.owes_wake, reader.last_wake = False, now
                self._wake()

    def _take_again(self, reader: Reader, messages: Sequence[Message]) -> None:
        """Index what is read again for roles that were added; called by the thread of that reader."""
        arrived = [(each, to_record(each) if each.error() is None else None) for each in messages]
        completed = False
        with self.mutex:
            batches: dict[str, Batch] = {}
            for message, record in arrived:
                self._sort_again(reader, message, record, batches)
            for (name, partition), offset in reader.reached(is_empty=not messages).items():
                if (name, partition) in reader and (name, partition) not in reader.dropped:
                    batches.setdefault(name, Batch([], {})).note(partition, offset)
            for name, partition in [at for at in reader.dropped if at in reader]:
                self.backfills.again(name, partition)
            if batches:
                completed = self._commit_again(batches)
            reader.dropped.clear()
        if completed:
            self._wake()

    def _sort_again(self, reader: Reader, message: Message, record: Record | None, batches: dict[str, Batch]) -> None:
        name, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        if name not in self.backfills or (name, partition) not in reader or (name, partition) in reader.dropped:
            return
        error = message.error()
        if record is not None:
            batch = batches.setdefault(name, Batch([], {}))
            if self.backfills.wants(name, partition, offset):
                batch.records.append(record)
            batch.note(partition, offset + 1)
        elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            batches.setdefault(name, Batch([], {})).note(partition, offset)
        else:  # such as a position that retention has passed: it is read on from the new beginning
            self._kick()

    def _commit_again(self, batches: Mapping[str, Batch]) -> bool:
        """Index; return True if a topic now serves a role that was added."""
        refused = self._retention.write(self._writer.backfill, batches, self.states)
        for name, reason in refused.items():  # it goes on with the roles that it has, and the next look tries again
            log.error("store_full cluster=%s topic=%s: no room for an added role: %s", self._cluster, name, reason)
            self.backfills.drop(name)
        completed = [
            name for name, batch in batches.items() if name not in refused and self.backfills.reach(name, batch.reached)
        ]
        for name in completed:
            self.backfills.drop(name)
            self.states[name] = self._writer.complete(self.states[name])
            log.info("topic_roles_ready cluster=%s topic=%s", self._cluster, name)
        return bool(completed)
