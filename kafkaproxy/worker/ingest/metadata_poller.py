"""The metadata poller: asks Kafka which topics were created, deleted, re-created or have grown, and where their logs start.

Its requests to Kafka block, so it runs in a thread of its own and posts the answers.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from kafkaproxy.metrics import BROKER_UP
from kafkaproxy.worker.errors import Unavailable

__all__ = ["MetadataPoller", "TopicInfo"]

log = logging.getLogger("kafkaproxy.metadata")

_COMMITTED: Final = IsolationLevel.READ_COMMITTED
_TIMEOUT_SECONDS: Final = 8.0
_POLICY_SECONDS: Final = 300.0
_UNKNOWN_POLICY_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 0.5
"""How long to wait before the cluster is tried again (each attempt has its own time-out, :data:`_TIMEOUT_SECONDS`), or before
topics are polled again whose answers were incomplete, for instance while leaders are elected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicInfo:
    """What Kafka says of a topic."""

    name: str
    id: str = ""
    partitions: int = 0
    policy: str | None = None
    """``cleanup.policy``; None if the broker does not say."""
    earliest: Mapping[int, int] = field(default_factory=dict)
    latest: Mapping[int, int] = field(default_factory=dict)
    """Partition → last stable offset: the end of its log for a consumer that reads committed records only."""
    error: Unavailable | None = None
    is_refused: bool = False
    """True if the cluster could not be asked because a broker did not accept our credentials."""
    asked: float = 0.0
    """When its offsets were requested, by the monotonic clock."""


Post = Callable[[str, list[TopicInfo]], None]
"""Called with the cluster's id (empty if Kafka did not answer or has none) and the information about each topic."""


class MetadataPoller:
    """Polls the metadata of its topics every ``interval`` seconds, and at once when told to."""

    def __init__(self, cluster: str, admin_config: Mapping[str, Any], interval: float, post: Post, *, embedded: bool) -> None:
        self._cluster = cluster
        self._config = dict(admin_config)
        self._interval = interval
        self._post = post
        self._embedded = embedded
        self._topics: frozenset[str] = frozenset()
        self._policies: dict[str, tuple[float, str | None]] = {}
        self._poll_requested = threading.Event()
        self._is_down = False
        self._is_refused = False
        """True if a broker did not accept our credentials."""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"kafkaproxy-metadata-{cluster}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def set_topics(self, names: Iterable[str]) -> None:
        """Set the topics to poll; if they changed, they are polled at once."""
        topics = frozenset(names)
        if topics != self._topics:
            self._topics = topics
            self._poll_requested.set()

    def poll_now(self) -> None:
        """Poll now; from any thread."""
        self._poll_requested.set()

    def close(self) -> None:
        """Stop. A request that is in progress ends at its own time-out."""
        self._closed = True
        self._poll_requested.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        config: dict[str, Any] = {**self._config, "error_cb": self._note_error}
        admin: AdminClient | None = None
        incomplete: list[str] = []
        due = time.monotonic() + self._interval
        while not self._closed:
            wait = max(due - time.monotonic(), 0)
            is_requested = self._poll_requested.wait(min(wait, _RETRY_SECONDS) if self._is_down or incomplete else wait)
            self._poll_requested.clear()
            # While the cluster is down, or an answer was incomplete, it polls sooner than the interval says.
            is_due = is_requested or self._is_down or time.monotonic() >= due
            names = sorted(self._topics if is_due else self._topics.intersection(incomplete))
            due = time.monotonic() + self._interval if is_due else due
            incomplete = []
            if self._closed or not names:
                continue
            try:
                admin = admin or AdminClient(config)
                cluster_id, infos = self._poll(admin, names)
                incomplete = [info.name for info in infos if info.error is Unavailable.NOT_READ_YET]
                self._post(cluster_id, infos)
            except Exception:
                # If this thread ended, the worker would not notice any change of a topic again.
                log.exception("metadata_failed cluster=%s", self._cluster)

    def _poll(self, admin: AdminClient, names: list[str]) -> tuple[str, list[TopicInfo]]:
        try:
            cluster_id = "" if self._embedded else self._cluster_id(admin)
            found = self._describe_mock(admin, names) if self._embedded else self._describe(admin, names)
        except (KafkaException, TimeoutError) as error:
            reason = error.args[0].name() if isinstance(error, KafkaException) else "timeout"
            log.warning("cluster_unreachable cluster=%s error=%s", self._cluster, reason)
            self._is_down = True
            admin.poll(0)  # calls _note_error
            BROKER_UP.cell(self._cluster).value = 0
            return "", [TopicInfo(name=name, error=Unavailable.UNREACHABLE, is_refused=self._is_refused) for name in names]
        self._is_down = self._is_refused = False
        BROKER_UP.cell(self._cluster).value = 1
        return cluster_id, [self._with_offsets(admin, each) for each in found]

    def _note_error(self, error: KafkaError) -> None:
        self._is_refused |= error.code() == KafkaError._AUTHENTICATION  # noqa: SLF001

    def _cluster_id(self, admin: AdminClient) -> str:
        return admin.describe_cluster(request_timeout=_TIMEOUT_SECONDS).result(_TIMEOUT_SECONDS).cluster_id or ""

    def _describe(self, admin: AdminClient, names: list[str]) -> list[TopicInfo]:
        infos: list[TopicInfo] = []
        for name, future in admin.describe_topics(TopicCollection(names), request_timeout=_TIMEOUT_SECONDS).items():
            try:
                topic = future.result(_TIMEOUT_SECONDS)
            except KafkaException as error:
                infos.append(_error_info(name, error.args[0]))
            else:
                policy = self._policy(admin, name, str(topic.topic_id))
                topic_id = _hex_id(topic.topic_id) or _derived_id(self._cluster, name)
                infos.append(TopicInfo(name=name, id=topic_id, partitions=len(topic.partitions), policy=policy))
        return infos

    def _describe_mock(self, admin: AdminClient, names: list[str]) -> list[TopicInfo]:
        """Describe topics of the mock cluster, which answers plain metadata only: no topic ids, no configurations."""
        found = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
        return [
            TopicInfo(name=name, id=_derived_id(self._cluster, name), partitions=len(found[name].partitions))
            if name in found and found[name].error is None
            else TopicInfo(name=name, error=Unavailable.UNKNOWN_TOPIC)
            for name in names
        ]

    def _policy(self, admin: AdminClient, name: str, topic_id: str) -> str | None:
        """Return ``cleanup.policy``. It is requested again every few minutes, and for every new topic id."""
        asked, policy = self._policies.get(f"{name}/{topic_id}", (-_POLICY_SECONDS, None))
        if time.monotonic() - asked < (_UNKNOWN_POLICY_SECONDS if policy is None else _POLICY_SECONDS):
            return policy
        resource = ConfigResource(ResourceType.TOPIC, name)
        for future in admin.describe_configs([resource], request_timeout=_TIMEOUT_SECONDS).values():
            try:
                policy = future.result(_TIMEOUT_SECONDS)["cleanup.policy"].value
            except (KafkaException, KeyError, TimeoutError):
                log.warning("cleanup_policy_unknown cluster=%s topic=%s", self._cluster, name)
        self._policies[f"{name}/{topic_id}"] = (time.monotonic(), policy)
        return policy

    def _with_offsets(self, admin: AdminClient, info: TopicInfo) -> TopicInfo:
        if info.error is not None:
            return info
        asked = time.monotonic()
        earliest = self._offsets(admin, info, OffsetSpec.earliest())
        latest = self._offsets(admin, info, OffsetSpec.latest())
        # All or nothing: with the offsets of some partitions only, the others would look empty.
        if len(earliest) < info.partitions or len(latest) < info.partitions:
            return TopicInfo(name=info.name, error=Unavailable.NOT_READ_YET)
        return TopicInfo(
            name=info.name,
            id=info.id,
            partitions=info.partitions,
            policy=info.policy,
            earliest=earliest,
            latest=latest,
            asked=asked,
        )

    def _offsets(self, admin: AdminClient, info: TopicInfo, spec: OffsetSpec) -> dict[int, int]:
        request = {TopicPartition(info.name, partition): spec for partition in range(info.partitions)}
        offsets: dict[int, int] = {}
        for at, future in admin.list_offsets(request, isolation_level=_COMMITTED, request_timeout=_TIMEOUT_SECONDS).items():
            try:
                offsets[at.partition] = future.result(_TIMEOUT_SECONDS).offset
            except (KafkaException, TimeoutError):
                log.warning("offsets_unknown cluster=%s topic=%s partition=%s", self._cluster, info.name, at.partition)
        return offsets


def _error_info(name: str, error: KafkaError) -> TopicInfo:
    match error.code():
        case KafkaError.UNKNOWN_TOPIC_OR_PART | KafkaError.TOPIC_EXCEPTION:
            reason = Unavailable.UNKNOWN_TOPIC
        case KafkaError.TOPIC_AUTHORIZATION_FAILED:
            reason = Unavailable.NOT_AUTHORIZED
        case KafkaError._TRANSPORT | KafkaError._TIMED_OUT | KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            reason = Unavailable.UNREACHABLE
        case _:  # for instance a partition has no leader at present, while the cluster can be reached
            reason = Unavailable.NOT_READ_YET
    return TopicInfo(name=name, error=reason)


def _hex_id(uuid: Any) -> str:
    """Return Kafka's UUID in hexadecimal; empty for the zero UUID of brokers before 2.8."""
    if uuid is None:
        return ""
    most, least = uuid.get_most_significant_bits(), uuid.get_least_significant_bits()
    raw = (most % (1 << 64)).to_bytes(8) + (least % (1 << 64)).to_bytes(8)
    return raw.hex() if any(raw) else ""


def _derived_id(cluster: str, name: str) -> str:
    return hashlib.blake2b(f"{cluster}/{name}".encode(), digest_size=16).hexdigest()
