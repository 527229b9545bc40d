"""Bringing what is read in step with what Kafka says of the topics: created, deleted, re-created, truncated, grown, trimmed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from kafkaproxy.worker.errors import Unavailable
from kafkaproxy.worker.ingest.garbage import Garbage
from kafkaproxy.worker.ingest.metadata_poller import TopicInfo
from kafkaproxy.worker.ingest.reading import Reading
from kafkaproxy.worker.store.reader import Progress, Store, TopicState
from kafkaproxy.worker.store.retention import Retention
from kafkaproxy.worker.store.writer import StoreWriter
from kafkaproxy.worker.types import Role, TopicSettings

__all__ = ["TopicSync"]

log = logging.getLogger("kafkaproxy.ingest")

_TRANSIENT: Final = (Unavailable.UNREACHABLE, Unavailable.NOT_READ_YET)


class TopicSync:
    """Applies the metadata poller's answers. For the coordinator's thread.

    ``interest`` returns topic → roles, ``settings`` a topic's settings. ``heartbeat`` is called between the steps of long work:
    a writer without a heartbeat is replaced. ``wake`` is called after changes that readers of the store have to see.
    """

    def __init__(
        self,
        cluster: str,
        store: Store,
        writer: StoreWriter,
        reading: Reading,
        retention: Retention,
        garbage: Garbage,
        *,
        interest: Callable[[], Mapping[str, frozenset[Role]]],
        settings: Callable[[str], TopicSettings],
        heartbeat: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._writer = writer
        self._reading = reading
        self._retention = retention
        self._garbage = garbage
        self._interest = interest
        self._settings = settings
        self._heartbeat = heartbeat
        self._wake = wake

    def apply(self, cluster_id: str, infos: list[TopicInfo]) -> None:
        """Apply one poll. ``cluster_id`` is empty if Kafka did not answer or has none."""
        changed = self._drop_other_cluster(cluster_id)
        interest = self._interest()
        for info in infos:
            self._heartbeat()
            if info.name in interest:
                changed |= self._apply_topic(info, interest[info.name])
        if changed:
            self._wake()

    def _drop_other_cluster(self, cluster_id: str) -> bool:
        """Empty the store if another cluster's data is in it; return True if it was.

        Its topics may have the same names, and after a copy of the cluster even the same ids.
        """
        reading = self._reading
        with reading.mutex:
            if not cluster_id or not self._writer.claim_cluster(cluster_id):
                return False
            log.warning("store_of_another_cluster cluster=%s", self._cluster)
            for name in reading.states:
                reading.drop(name)
            reading.states.clear()
            self._garbage.clear()
        return True

    def _apply_topic(self, info: TopicInfo, roles: frozenset[Role]) -> bool:
        """Apply what Kafka says of one topic; return True if readers of the store have to see a change."""
        reading = self._reading
        state = reading.states.get(info.name)
        if info.error is not None:
            with reading.mutex:
                return self._apply_error(info, info.error, state, roles)
        if state is None or state.id != info.id:
            self._begin_topic(info, roles, state)
            return True
        progress = self._store.progress(state.key)
        with reading.mutex:
            is_truncated = self._is_truncated(info, progress)
        if is_truncated or self._must_read_again(info, state, progress):
            self._begin_topic(info, roles | state.roles, state, is_truncated=is_truncated)
            return True
        trimmed = self._trim(info, state, progress)
        with reading.mutex:
            # The state is taken again: the readers' threads may have changed it while the mutex was free.
            changed = self._update_topic(info, reading.states[info.name], progress)
            return reading.add_roles(info.name, roles) or changed or trimmed

    def _apply_error(self, info: TopicInfo, error: Unavailable, state: TopicState | None, roles: frozenset[Role]) -> bool:
        is_served = state is not None and state.ready and state.confirmed
        if error in _TRANSIENT and state is not None and state.id and (is_served or error is Unavailable.NOT_READ_YET):
            return False  # the store still holds what Kafka said last
        if info.is_refused:
            error = Unavailable.NOT_AUTHORIZED
        if state is not None and error is Unavailable.UNKNOWN_TOPIC:
            self._reading.drop(info.name)
        new = (
            replace(state, error=str(error)) if state is not None else TopicState(name=info.name, roles=roles, error=str(error))
        )
        if new == state:
            return False
        log.warning("topic_unavailable cluster=%s topic=%s reason=%s", self._cluster, info.name, error)
        self._reading.set_state(new)
        return True

    def _begin_topic(
        self, info: TopicInfo, roles: frozenset[Role], old: TopicState | None, *, is_truncated: bool = False
    ) -> None:
        """Read a topic from its start: it is new, was re-created or truncated, or its data in the store is unusable."""
        settings = self._settings(info.name)
        cuts = old.cuts + is_truncated if old is not None and old.id == info.id else 0
        state = TopicState(name=info.name, id=info.id, partitions=info.partitions, roles=roles, cuts=cuts)
        state = replace(state, compacted=self._is_compacted(info, state))
        starts = info.latest if settings.live else info.earliest
        reading = self._reading
        with reading.mutex:
            self._retention.stopped.discard(info.name)
            if old is not None:
                log.info("topic_restarted cluster=%s topic=%s recreated=%s", self._cluster, info.name, old.id != info.id)
                reading.drop(info.name)
                if old.id and old.key != state.key:
                    self._garbage.add([old.key])
            # The state is not ready. Readers have to see it before any data is dropped: they would serve what is left as all.
            reading.set_state(state)
            self._wake()
        # Without the mutex, since it may take long. No reader thread writes to the topic: it is assigned to none.
        self._garbage.discard(state.key)
        while self._writer.drop_step(state.key):
            self._heartbeat()
        with reading.mutex:
            self._writer.start(state, starts, info.earliest)
            reading.read_partitions(state, starts, info.latest)

    def _is_truncated(self, info: TopicInfo, progress: Mapping[int, Progress]) -> bool:
        positions = {partition: each.next_offset for partition, each in progress.items()}
        if not self._reading.assignment.is_truncated(info.name, positions, info.earliest, info.asked):
            return False
        log.error("topic_truncated cluster=%s topic=%s", self._cluster, info.name)
        return True

    def _must_read_again(self, info: TopicInfo, state: TopicState, progress: Mapping[int, Progress]) -> bool:
        """Return True if reading cannot continue from what the store holds."""
        # No progress: a writer died while it dropped the data. No longer compacted: the store removed superseded records, which
        # count from now on.
        return not progress or (state.compacted and not self._is_compacted(info, state))

    def _trim(self, info: TopicInfo, state: TopicState, progress: Mapping[int, Progress]) -> bool:
        """Remove the records before Kafka's log start; return True if there were any.

        Call it without the mutex, since it may take long.
        """
        partitions = [each for each, known in progress.items() if info.earliest.get(each, 0) > known.log_start]
        for partition in partitions:
            while not self._writer.trim_step(state, partition, info.earliest[partition]):
                self._heartbeat()
            with self._reading.mutex:
                self._reading.skip_to_log_start(info.name, partition, info.earliest[partition], progress[partition].next_offset)
        return bool(partitions)

    def _update_topic(self, info: TopicInfo, state: TopicState, progress: Mapping[int, Progress]) -> bool:
        """Apply new partitions and a changed policy; return True if readers of the store have to see a change."""
        new = {partition: info.earliest[partition] for partition in range(info.partitions) if partition not in progress}
        changed = replace(
            state,
            partitions=info.partitions,
            compacted=self._is_compacted(info, state),
            error=self._error_of(info.name),
        )
        if new:
            self._writer.start(changed, new, info.earliest)
        elif changed != state:
            self._writer.put_states([changed])
        reading = self._reading
        reading.states[info.name] = changed
        if changed.error != Unavailable.STORE_FULL:
            positions = self._store.next_offsets(changed.key)
            reading.read_partitions(changed, reading.assignment.missing(info.name, positions, info.asked), info.latest)
            reading.assignment.retry_denied(info.name, positions)
        return reading.states[info.name] != state

    def _error_of(self, name: str) -> str:
        """Return why a topic that exists in Kafka is not read; empty if it is read."""
        if name in self._retention.stopped:
            return str(Unavailable.STORE_FULL)
        return str(Unavailable.NOT_AUTHORIZED) if self._reading.assignment.is_denied(name) else ""

    def _is_compacted(self, info: TopicInfo, state: TopicState) -> bool:
        """Return True if only the newest record of each key counts; where Kafka does not say, it is as it was."""
        policy = self._settings(info.name).cleanup_policy or info.policy
        return state.compacted if policy is None else "compact" in policy
