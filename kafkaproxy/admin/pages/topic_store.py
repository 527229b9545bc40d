"""What this host's store holds, read while another process may write it, and what Kafka says of the same topics now."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafkaproxy.conf import get_settings
from kafkaproxy.core.env import resolve_env
from kafkaproxy.models import Cluster
from kafkaproxy.routing.clusters import client_options
from kafkaproxy.specs.from_rows import cluster_spec
from kafkaproxy.worker.kafka.client import admin_config, consumer_config
from kafkaproxy.worker.kafka.mock_cluster import embedded_servers
from kafkaproxy.worker.store.environment import UNUSABLE
from kafkaproxy.worker.store.reader import Store, TopicState, current_path
from kafkaproxy.worker.store.writer_lock import prepare, writer_pid
from kafkaproxy.worker.types import ClusterConfig, Record

__all__ = ["Held", "LogEnds", "Partition", "ask_kafka", "held", "last_records", "opened_store", "partitions", "reader_config"]

_PATIENCE: Final = 5.0
_MOST_COUNTED: Final = 100_000
_LOOKS: Final = 50_000
_MOST_BYTES: Final = 8 << 20
Part = tuple[str, int]


@dataclass(slots=True)
class LogEnds:
    """By topic and partition, where the log starts in Kafka and its high watermark. ``error``: why they are not known."""

    starts: dict[Part, int] = field(default_factory=dict)
    ends: dict[Part, int] = field(default_factory=dict)
    error: str = ""


@dataclass(slots=True)
class Held:
    """How much the store holds of a partition."""

    records: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition: what Kafka has, what the store has of it. None: not known."""

    number: int
    log_start: int | None
    next_offset: int | None
    high_watermark: int | None
    complete_from: int | None
    held: Held | None

    @property
    def lag(self) -> int | None:
        """How many offsets the store is behind."""
        if self.next_offset is None or self.high_watermark is None:
            return None
        return max(self.high_watermark - self.next_offset, 0)


@contextlib.contextmanager
def opened_store(cluster: str) -> Iterator[tuple[Store | None, int | None]]:
    """Yield the store of a cluster and the id of the process that writes it; None if there is no store, or no writer.

    Never makes a store, and never causes a read from Kafka.
    """
    settings = get_settings()
    folder = settings.store_dir / cluster
    if folder.exists():
        prepare(folder)  # a store that a crash of the machine has torn must not be opened
    try:
        store = Store(folder, settings.store_max_bytes, may_replace=False)
    except (FileNotFoundError, *UNUSABLE):
        yield None, writer_pid(current_path(folder))
        return
    try:
        yield store, writer_pid(store.path)
    finally:
        store.close()


def ask_kafka(cluster: Cluster, states: Iterable[TopicState]) -> LogEnds:
    """Ask where the logs of the topics begin and end now. Blocks for up to twice five seconds; never raises."""
    parts = [(state.name, number) for state in states for number in range(state.partitions)]
    answer = LogEnds()
    try:
        admin = AdminClient(_admin_config(cluster))
        answer.starts = _offsets(admin, parts, OffsetSpec.earliest(), answer)
        if not answer.error:
            answer.ends = _offsets(admin, parts, OffsetSpec.latest(), answer)
    except (ValueError, AttributeError, KafkaException, RuntimeError) as error:
        answer.error = str(error)
    return answer


def _admin_config(row: Cluster) -> dict[str, Any]:
    return admin_config(*_where(row))


def reader_config(row: Cluster) -> dict[str, Any]:
    """Return the configuration of a consumer of the cluster; raise ``ValueError`` or ``RuntimeError`` where it has none."""
    return consumer_config(*_where(row))


def _where(row: Cluster) -> tuple[ClusterConfig, str]:
    """Return how to reach a cluster, and its servers."""
    options = client_options(cluster_spec(row), lambda text: resolve_env(text, os.environ))
    config = ClusterConfig(name=row.name, client=options)
    folder = get_settings().store_dir / row.name
    return config, _embedded(folder) if config.embedded else str(options["bootstrap.servers"])


def _embedded(folder: Path) -> str:
    if writer_pid(current_path(folder)) is None:  # to ask would start a broker, with an empty store
        raise RuntimeError("The embedded broker does not run: it runs where the worker does.")
    return embedded_servers(folder)


def _offsets(admin: AdminClient, parts: list[Part], spec: OffsetSpec, answer: LogEnds) -> dict[Part, int]:
    if not parts:
        return {}
    found: dict[Part, int] = {}
    request = {TopicPartition(*part): spec for part in parts}
    for at, future in admin.list_offsets(request, request_timeout=_PATIENCE).items():
        try:
            found[at.topic, at.partition] = future.result(_PATIENCE).offset
        except KafkaException as error:
            answer.error = answer.error or str(error.args[0].name())
        except TimeoutError:
            answer.error = answer.error or "timeout"
    return found


def partitions(store: Store, state: TopicState, said: LogEnds, stored: Mapping[int, Held]) -> list[Partition]:
    """Return what Kafka and the store have, by partition. Partitions that are not in ``stored`` were not counted."""
    progress = store.progress(state.key)
    rows = []
    for number in range(state.partitions):
        known = progress.get(number)
        rows.append(
            Partition(
                number=number,
                log_start=said.starts.get((state.name, number), known.log_start if known else None),
                next_offset=known.next_offset if known else None,
                high_watermark=said.ends.get((state.name, number)),
                complete_from=known.complete_from if known else None,
                held=stored.get(number),
            )
        )
    return rows


def held(store: Store, state: TopicState) -> tuple[dict[int, Held], bool]:
    """Count records and bytes by partition. False: there are too many to count, and the last partitions are missing."""
    counted: dict[int, Held] = {}
    seen = 0
    with store.env.begin(buffers=True) as txn:
        for partition, _offset, data in islice(store.scan(txn, state), _MOST_COUNTED):
            seen += 1
            row = counted.setdefault(partition, Held())
            row.records += 1
            row.size += len(data)
    if seen < _MOST_COUNTED:
        return {number: counted.get(number, Held()) for number in range(state.partitions)}, True
    del counted[max(counted)]
    return counted, False


def last_records(store: Store, state: TopicState, key: bytes | None, count: int) -> tuple[list[Record], bool]:
    """Return the newest records of a topic, newest first; False: there may be older ones (of that key)."""
    found: list[Record] = []
    complete = True
    for partition in range(state.partitions):
        share = {"limit": count, "max_scanned": _LOOKS // state.partitions, "max_bytes": _MOST_BYTES // state.partitions}
        records, is_all = store.last(state.key, partition, key=key, **share)
        found += records
        complete &= is_all
    found.sort(key=lambda record: (record.timestamp, record.offset), reverse=True)
    return found[:count], complete and len(found) <= count
