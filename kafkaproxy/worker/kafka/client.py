"""librdkafka configurations for the three kinds of client that a cluster needs: producer, consumer, admin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer

from kafkaproxy.worker.kafka.log_rate_limit import librdkafka_log
from kafkaproxy.worker.types import Acks, ClusterConfig

__all__ = ["RESERVED", "Limits", "admin_config", "check_client", "consumer_config", "producer_config"]

_ACKS: Final[Mapping[Acks, str]] = {Acks.NONE: "0", Acks.LEADER_ONLY: "1", Acks.IN_SYNC_REPLICAS: "all"}
# Options of a producer or a consumer only: librdkafka warns if the other one gets them.
_PRODUCER_ONLY: Final = (
    *("acks", "batch.", "compression.", "delivery.", "enable.gapless", "enable.idempotence", "linger.", "message.send"),
    *("message.timeout", "partitioner", "queue.buffering", "request.required", "request.timeout", "retries", "sticky."),
    "transaction.",
)
_CONSUMER_ONLY: Final = (
    *("auto.", "check.crcs", "enable.auto", "enable.partition", "fetch.", "group.", "isolation.", "queued.", "session."),
)

_KEEP_TRYING_MS: Final = 15 * 60 * 1000
"""How long an idempotent producer retries a record. If it gave up, it would begin a new epoch, in which the broker no longer
recognises the records of the last one; so this is far longer than any stall that a record should survive."""
_QUEUE_KIB: Final = 256 * 1024
RESERVED: Final = frozenset(
    # Our guarantees depend on these: acknowledgements, where reading begins, and what is read.
    {"acks", "request.required.acks", "enable.idempotence", "partitioner", "message.timeout.ms", "delivery.timeout.ms"}
    | {"enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "enable.partition.eof", "isolation.level"}
    | {"group.id", "group.protocol", "group.instance.id", "transactional.id", "allow.auto.create.topics"}
    # These load code or run commands.
    | {"plugin.library.paths", "ssl.engine.location", "ssl.providers", "sasl.kerberos.kinit.cmd"}
)
"""The options that a cluster's configuration cannot set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The worker's part of the settings; times in seconds, sizes in bytes."""

    store_dir: Path
    store_max_bytes: int = 1 << 34
    stream_store_bytes: int = 1 << 30
    ingest: bool = True
    max_topics: int = 1000
    topic_idle: float = 600.0
    max_record_bytes: int = 11 << 20
    max_waiting: int = 10_000
    max_merges: int = 64
    max_wait: float = 300.0
    produce_timeout: float = 10.0
    stop: float = 7.0
    metadata_interval: float = 5.0
    retention_interval: float = 10.0
    writer_timeout: float = 5.0


def producer_config(cluster: ClusterConfig, servers: str, acks: Acks, limits: Limits) -> dict[str, Any]:
    """Return the configuration of the producer for one kind of acknowledgement.

    It uses Java's partitioner, so that it chooses the same partition for a key as other producers of the topic do. It is
    idempotent where the acknowledgement allows it, so that a retry of librdkafka neither duplicates nor reorders records. An
    idempotent producer retries a record after its request was answered; any other gives up then, since each retry may write the
    record again.
    """
    is_idempotent = acks is Acks.IN_SYNC_REPLICAS
    patience_ms = round(limits.produce_timeout * 1000)
    return {
        **_common(servers),
        "partitioner": "murmur2_random",
        "acks": _ACKS[acks],
        "enable.idempotence": is_idempotent,
        "message.timeout.ms": max(patience_ms, _KEEP_TRYING_MS) if is_idempotent else patience_ms,
        "queue.buffering.max.kbytes": _QUEUE_KIB,
        "message.max.bytes": limits.max_record_bytes,
        "linger.ms": 0,
        # An unknown topic is reported after this time instead of the default of 30 s, and before the record itself times out.
        "topic.metadata.propagation.max.ms": min(3000, round(limits.produce_timeout * 500)),
        **_given(cluster, _CONSUMER_ONLY),
        "bootstrap.servers": servers,
    }


def consumer_config(cluster: ClusterConfig, servers: str) -> dict[str, Any]:
    """Return the configuration of a consumer whose partitions are assigned, never subscribed in a group."""
    return {
        **_common(servers),
        "group.id": "kafkaproxy-assigned",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "allow.auto.create.topics": False,
        # The mock cluster answers a fetch only after this time; a real broker as soon as it has a record.
        "fetch.wait.max.ms": 10 if cluster.embedded else 500,
        "fetch.error.backoff.ms": 100,
        "topic.metadata.refresh.interval.ms": 5000,
        **_given(cluster, _PRODUCER_ONLY),
        "bootstrap.servers": servers,
    }


def admin_config(cluster: ClusterConfig, servers: str) -> dict[str, Any]:
    """Return the configuration of the admin client."""
    given = _given(cluster, _PRODUCER_ONLY + _CONSUMER_ONLY)
    return {**_common(servers), **given, "bootstrap.servers": servers}


def check_client(options: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for options that librdkafka rejects or that a cluster cannot set.

    No connection is made: the check leaves the servers out.
    """
    reserved = sorted(name for name in options if name in RESERVED or name.startswith("test."))
    if reserved:
        raise ValueError(f"{', '.join(reserved)} cannot be set here: leave it out.")
    given = {name: value for name, value in options.items() if name != "bootstrap.servers"}
    quiet = {"log_level": 0}
    try:
        Producer({**{name: value for name, value in given.items() if not name.startswith(_CONSUMER_ONLY)}, **quiet})
        Consumer({"group.id": "check", **{n: v for n, v in given.items() if not n.startswith(_PRODUCER_ONLY)}, **quiet}).close()
    except KafkaException as error:
        raise ValueError(str(error.args[0].str())) from None


def _common(servers: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": servers,
        "client.id": "kafkaproxy",
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 2000,
        "log.connection.close": False,
        "logger": librdkafka_log,
    }


def _given(cluster: ClusterConfig, not_for: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in cluster.client.items() if not name.startswith(not_for)}
