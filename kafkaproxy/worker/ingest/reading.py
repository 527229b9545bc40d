"""What the writer reads and how far: the topics with their states, the readers, and the records that they bring.

Public methods are called by the coordinator (:mod:`kafkaproxy.worker.ingest.coordinator`); records come from the readers'
threads. One mutex guards all of it. It is held for a step of a few milliseconds at most, so that one topic does not delay the
others for long.
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
from kafkaproxy.worker.store.capacity import is_disk_error
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.retention import Retention
from kafkaproxy.worker.store.writer import Batch, StoreWriter
from kafkaproxy.worker.types import Record, Role

__all__ = ["Reading"]

log = logging.getLogger("kafkaproxy.ingest")

_POSITIONS_SECONDS: Final = 3.0
"""How long the consumers' statistics are read after a request for a metadata poll."""
_CATCH_UP_WAKE_SECONDS: Final = 0.05
"""How often the requests and streams are woken for records of a topic that is being caught up."""
_SMALL_BACKLOG: Final = 2_000
_JOIN_LIVE_LAG: Final = 20_000
"""A topic that is at most so many records behind moves to the reader of live topics."""
_MAX_LIVE_LAG: Final = 100_000
"""A live topic that falls so many records behind moves to the reader that catches up."""
_POLL_ERRORS: Final = (
    *(KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION),  # noqa: SLF001
    *(KafkaError._AUTO_OFFSET_RESET, KafkaError.TOPIC_AUTHORIZATION_FAILED),  # noqa: SLF001
)
"""Errors after which the topic's metadata is polled at once: where its log is now, and if the topic exists."""
ReaderName = Literal["live", "catch-up", "backfill"]


class Reading:
    """The topics that one writer reads, from when it takes over until it stops.

    ``dispatch_early`` is called with a reply topic's records before they are committed; ``wake`` after commits;
    ``poll_metadata`` when a topic's metadata has to be polled; ``post`` with a command for the coordinator's thread. All may be
    called from readers' threads.
    """

    def __init__(
        self,
        cluster: str,
        consumer_config: Mapping[str, Any],
        store: Store,
        writer: StoreWriter,
        retention: Retention,
        *,
        dispatch_early: Callable[[str, Sequence[Record]], None],
        wake: Callable[[], None],
        poll_metadata: Callable[[], None],
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
        self._retention = retention
        self._dispatch_early = dispatch_early
        self._wake = wake
        self._poll_metadata = poll_metadata
        self._post = post
        self._readers: dict[ReaderName, Reader] = {}
        self._positions_until = 0.0

    def close(self) -> None:
        """Stop the readers; each finishes its step."""
        readers, self._readers = list(self._readers.values()), {}
        for reader in readers:
            reader.close()

    def request_positions(self) -> None:
        """Read positions that no record shows for the next three seconds, because a request waits for one. From any thread."""
        self._positions_until = time.monotonic() + _POSITIONS_SECONDS

    def set_state(self, state: TopicState) -> None:
        """Store a topic's new state."""
        self.states[state.name] = state
        self._writer.put_states([state])

    def read_partitions(self, state: TopicState, positions: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Read partitions of a topic from these offsets on; ``ends``: partition → where the partition ends at present.

        A topic that is not ready, or not confirmed, becomes so when it was read up to there.
        """
        if positions:
            backlog = sum(max(ends.get(each, 0) - offset, 0) for each, offset in positions.items())
            reader = self._reader("live" if backlog <= _SMALL_BACKLOG else "catch-up")
            self.assignment.add(reader, state.name, positions)
        if not (state.ready and state.confirmed):
            self._targets.add(state.name, positions, {partition: ends.get(partition, 0) for partition in positions})

    def drop(self, name: str) -> None:
        """Stop reading a topic."""
        self.assignment.drop(name)
        self._targets.forget(name)
        self.backfills.drop(name)

    def stop_topic(self, name: str, reason: Exception) -> None:
        """Stop reading a topic because the store has no capacity for it. The other topics are read on."""
        what_to_do = "free the disk" if is_disk_error(reason) else "raise KAFKAPROXY['STORE_MAX_BYTES']"
        log.error("store_full cluster=%s topic=%s: %s", self._cluster, name, what_to_do)
        self._retention.mark_stopped(name)
        self.drop(name)
        self.set_state(replace(self.states[name], ready=False, error=str(Unavailable.STORE_FULL)))

    def add_roles(self, name: str, roles: frozenset[Role]) -> bool:
        """Add roles to a topic, which goes on serving its present ones; return True if readers of the store have to see it."""
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

    def skip_to_log_start(self, name: str, partition: int, log_start: int, position: int) -> None:
        """Continue at a partition's log start, which has moved. ``position``: the next offset before that."""
        if position < log_start:
            self.assignment.skip_to(name, partition, log_start)
            self.apply_positions({name: {partition: log_start}})
        if self.backfills.reassign(name, partition, log_start):
            self._complete_backfill(name)

    def balance(self) -> None:
        """Move topics that have caught up to the reader of live topics, and those that fell far behind away from it."""
        with self.mutex:
            behind, live = self._readers.get("catch-up"), self._readers.get("live")
            caught_up = self.assignment.topics(behind) if behind is not None else ()
            for name in caught_up:
                if behind is not None and name not in self._targets and self._lag(behind, name) <= _JOIN_LIVE_LAG:
                    self._move(name, "live")
            saturated = live.saturated_topics() if live is not None else ()
            for name in list(saturated):  # a copy: the reader's thread may still add to the set
                if live is not None and self.assignment.reader(name) is live and self._lag(live, name) > _MAX_LIVE_LAG:
                    self._move(name, "catch-up")

    def _reader(self, name: ReaderName) -> Reader:
        """Return a reader; it is started when it is first needed."""
        reader = self._readers.get(name)
        if reader is None:
            handle = self._write_backfill if name == "backfill" else self._write
            reader = self._readers[name] = Reader(name, self._config, handle, self._reader_failed, self._needs_positions)
            reader.start()
        return reader

    def _reader_failed(self, error: Exception) -> None:
        """Raise the error in the coordinator's thread, which starts again as the writer."""

        def fail() -> None:
            raise error

        self._post(fail)

    def _needs_positions(self, reader: Reader) -> bool:
        """Return True if something waits for a position that no record may show."""
        if time.monotonic() < self._positions_until:
            return True
        return bool(self.backfills) if reader.name == "backfill" else bool(self._targets)

    def _move(self, name: str, target: ReaderName) -> None:
        log.info("topic_moved cluster=%s topic=%s reader=%s", self._cluster, name, target)
        self.assignment.move(name, self._reader(target), self._store.next_offsets(self.states[name].key))

    def _lag(self, reader: Reader, name: str) -> int:
        """Return how many offsets a topic is behind the high watermarks that Kafka sent last."""
        positions = self._store.next_offsets(self.states[name].key)
        return sum(max(reader.high_watermark(name, each) - offset, 0) for each, offset in positions.items())

    # Messages of the readers' threads

    def _write(self, reader: Reader, messages: Sequence[Message]) -> None:
        """Write the messages of a reader's step to the store; called by the reader's thread."""
        arrived = [(each, to_record(each) if each.error() is None else None) for each in messages]
        # Decoding needs no lock; writing does, since the coordinator changes assignments and states.
        with self.mutex:
            batches: dict[str, Batch] = {}
            misplaced: dict[str, list[int]] = {}
            for message, record in arrived:
                self._sort(reader, message, record, batches, misplaced)
            for (name, partition), offset in reader.reached(is_empty=not messages).items():
                if self.assignment.has(reader, name, partition) and (name, partition) not in reader.dropped:
                    batches.setdefault(name, Batch([], {})).advance(partition, offset)
            for name, batch in batches.items():
                # Early dispatch: a waiting request need not wait for the commit. Nothing depends on it; the store is the truth.
                if batch.records and Role.REPLY in self.states[name].roles:
                    self._dispatch_early(name, batch.records)
            changed = bool(batches) and self._commit(batches)
            # A partition was dropped and assigned again during the poll: its messages may be from either place, so none was
            # written, and it is read again from where the store is.
            for name, partitions in misplaced.items():
                positions = self._store.next_offsets(self.states[name].key)
                self.assignment.reassign(name, {partition: positions[partition] for partition in partitions})
            reader.dropped.clear()
        self._wake_after_step(reader, brought=bool(batches), at_once=changed)

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
            return  # fetched for an assignment that has ended
        if (name, partition) in reader.dropped:  # and assigned again: this message may be from its old offset
            if partition not in misplaced.setdefault(name, []):
                misplaced[name].append(partition)
            return
        error = message.error()
        if error is None:
            assert record is not None
            self.assignment.clear_denied(name)
            batches.setdefault(name, Batch([], {})).records.append(record)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self.assignment.clear_denied(name)
            batches.setdefault(name, Batch([], {})).advance(partition, message.offset() or 0)
        else:
            self._handle_error(name, partition, error)

    def _handle_error(self, name: str, partition: int, error: KafkaError) -> None:
        self.assignment.handle_error(name, partition, error)
        if error.code() in _POLL_ERRORS:
            self._poll_metadata()

    def _commit(self, batches: Mapping[str, Batch]) -> bool:
        """Commit batches; return True if readers of the store have to see a changed state.

        Only topics for which the store has no capacity are stopped.
        """
        refused = self._retention.write(self._writer.apply, batches, self.states)
        for name, reason in refused.items():
            self.stop_topic(name, reason)
        written = {name: batch.positions() for name, batch in batches.items() if name not in refused}
        return self.apply_positions(written) or bool(refused)

    def apply_positions(self, positions: Mapping[str, Mapping[int, int]]) -> bool:
        """Apply the positions of topics; return True if one of them became ready."""
        ready = [name for name, reached in positions.items() if self._targets.reach(name, reached)]
        for name in ready:
            log.info("topic_ready cluster=%s topic=%s", self._cluster, name)
            state = self.states[name]
            # It was read to its end, so what failed was only a poll of the metadata meanwhile.
            error = "" if state.error == Unavailable.UNREACHABLE else state.error
            self.set_state(replace(state, ready=True, confirmed=True, error=error))
            self._post(self.balance)
        return bool(ready)

    def _wake_after_step(self, reader: Reader, *, brought: bool, at_once: bool) -> None:
        """Wake the requests and streams. A topic that catches up has many steps, so it wakes them less often."""
        reader.is_wake_pending |= brought
        if reader.is_wake_pending or at_once:
            now = time.monotonic()
            if at_once or not brought or reader.name == "live" or now - reader.last_wake >= _CATCH_UP_WAKE_SECONDS:
                reader.is_wake_pending, reader.last_wake = False, now
                self._wake()

    def _write_backfill(self, reader: Reader, messages: Sequence[Message]) -> None:
        """Index records that are read again for roles that were added; called by the thread of the backfill reader."""
        arrived = [(each, to_record(each) if each.error() is None else None) for each in messages]
        completed = False
        with self.mutex:
            batches: dict[str, Batch] = {}
            for message, record in arrived:
                self._sort_backfill(reader, message, record, batches)
            for (name, partition), offset in reader.reached(is_empty=not messages).items():
                if (name, partition) in reader and (name, partition) not in reader.dropped:
                    batches.setdefault(name, Batch([], {})).advance(partition, offset)
            for name, partition in [at for at in reader.dropped if at in reader]:
                self.backfills.reassign(name, partition)
            if batches:
                completed = self._commit_backfill(batches)
            reader.dropped.clear()
        if completed:
            self._wake()

    def _sort_backfill(self, reader: Reader, message: Message, record: Record | None, batches: dict[str, Batch]) -> None:
        name, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        if name not in self.backfills or (name, partition) not in reader or (name, partition) in reader.dropped:
            return
        error = message.error()
        if record is not None:
            batch = batches.setdefault(name, Batch([], {}))
            if self.backfills.includes(name, partition, offset):
                batch.records.append(record)
            batch.advance(partition, offset + 1)
        elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            batches.setdefault(name, Batch([], {})).advance(partition, offset)
        else:  # for instance retention has passed the position: the backfill continues at the new log start
            self._poll_metadata()

    def _commit_backfill(self, batches: Mapping[str, Batch]) -> bool:
        """Index batches of backfills; return True if a topic serves a role from now on that was added."""
        refused = self._retention.write(self._writer.backfill, batches, self.states)
        for name, reason in refused.items():
            # The topic goes on with the roles that it has. After the next metadata poll the backfill is tried again.
            log.error("store_full cluster=%s topic=%s: no capacity for an added role: %s", self._cluster, name, reason)
            self.backfills.drop(name)
        completed = [
            name for name, batch in batches.items() if name not in refused and self.backfills.reach(name, batch.reached)
        ]
        for name in completed:
            self._complete_backfill(name)
        return bool(completed)

    def _complete_backfill(self, name: str) -> None:
        """Serve the roles that were added to a topic."""
        self.backfills.drop(name)
        self.states[name] = self._writer.complete(self.states[name])
        log.info("topic_roles_ready cluster=%s topic=%s", self._cluster, name)
