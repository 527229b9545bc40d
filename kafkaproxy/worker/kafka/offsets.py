"""Where logs begin and end at present, requested from Kafka once for all requests that need it at the same time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafkaproxy.core.futures import await_shared
from kafkaproxy.worker.errors import TopicUnavailable, Unavailable

__all__ = ["LogBounds", "LogOffsets", "Spec"]

_PATIENCE: Final = 5.0
_NOT_FOUND: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._NOENT, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001
)
"""A partition or its leader was not found: the topic does not exist, or the partition has no leader at present, or librdkafka
does not know it yet. Only :meth:`LogOffsets._confirm` distinguishes these."""
_TRANSIENT: Final = _NOT_FOUND | frozenset(
    {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.REPLICA_NOT_AVAILABLE}
    | {KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.OFFSET_NOT_AVAILABLE}
    | {KafkaError.LISTENER_NOT_FOUND, KafkaError.BROKER_NOT_AVAILABLE, KafkaError.KAFKA_STORAGE_ERROR}
    | {KafkaError.NETWORK_EXCEPTION, KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT}  # noqa: SLF001
)
"""Kafka's retriable errors for these requests. Most of them pass when another broker becomes a partition's leader: librdkafka
learns of it but does not repeat the request."""
_AGAIN_SECONDS: Final = 0.1
_MIN_SECONDS: Final = 0.5
_COUNT_SECONDS: Final = 1.0
_MAX_COUNTED: Final = 10_000
Spec = Literal["earliest", "latest"] | int
"""Which offset: of the first record, after the last one, or of the first record at or after a time (milliseconds since the
epoch)."""
Offsets = Mapping[int, int]
Asked = Mapping[TopicPartition, concurrent.futures.Future[Any]]
Question = Spec | Literal["bounds", "ends"]
Key = tuple[asyncio.AbstractEventLoop, str, int, Question]


@dataclass(frozen=True, slots=True)
class LogBounds:
    """How many partitions a topic has, and partition → offset of where they begin and end."""

    partitions: int
    earliest: Offsets
    latest: Offsets


class LogOffsets:
    """Requests offsets of a topic's partitions from Kafka, as a consumer of committed records sees them.

    An answer is never older than the call that needs it: calls that ask the same while a request is in progress share the next
    one. A request is repeated for up to :data:`_PATIENCE` seconds while leaders change; then :class:`TopicUnavailable` is
    raised with ``UNREACHABLE``. A topic or partition that does not exist is ``UNKNOWN_TOPIC`` at once.
    """

    def __init__(self, admin_config: Mapping[str, Any], *, embedded: bool = False) -> None:
        self._config = dict(admin_config)
        self._embedded = embedded
        self._admin: AdminClient | None = None
        self._running: dict[Key, asyncio.Future[Any]] = {}
        self._next: dict[Key, asyncio.Future[Any]] = {}
        self._counted: dict[str, tuple[int, float]] = {}
        """Topic → its number of partitions, and until when that may be used (monotonic seconds)."""

    async def ask(self, topic: str, partitions: int, spec: Spec = "latest") -> dict[int, int]:
        """Return partition → offset; -1 if the partition has no record at or after the time."""
        offsets: dict[int, int] = await self._share((asyncio.get_running_loop(), topic, partitions, spec))
        return offsets

    async def bounds(self, topic: str, partitions: int) -> LogBounds:
        """Return how many partitions there are, and where the first ``partitions`` of them begin and end."""
        bounds: LogBounds = await self._share((asyncio.get_running_loop(), topic, partitions, "bounds"))
        return bounds

    async def ends(self, topic: str, partitions: int) -> tuple[int, Offsets]:
        """Return how many partitions there are, and where the first ``partitions`` of them end.

        The number is up to a second old: requesting it costs Kafka as much as all the ends.
        """
        ends: tuple[int, Offsets] = await self._share((asyncio.get_running_loop(), topic, partitions, "ends"))
        return ends

    async def _share(self, key: Key) -> Any:
        running = self._running.get(key)
        if running is None:
            return await await_shared(self._begin(key))
        # The answer in progress may have been determined before this call: its caller needs one that is asked for after it.
        following = self._next.get(key)
        if following is None:
            following = self._next[key] = asyncio.ensure_future(self._after(running, key))
        return await await_shared(following)

    def _begin(self, key: Key) -> asyncio.Future[Any]:
        task: asyncio.Future[Any] = asyncio.ensure_future(self._answer(*key[1:]))
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))
        return task

    async def _after(self, running: asyncio.Future[Any], key: Key) -> Any:
        await asyncio.wait((running,))
        self._next.pop(key, None)
        return await self._begin(key)

    async def _answer(self, topic: str, partitions: int, question: Question) -> Any:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._question(topic, partitions, question, _remaining(deadline))
            except TopicUnavailable as error:
                if not _is_transient(error) or time.monotonic() > deadline:
                    raise
                is_found = _code(error) not in _NOT_FOUND
            # librdkafka reports an unknown partition in the same way as one without a leader: ask Kafka which it is.
            if not is_found:
                await self._confirm(topic, partitions, _remaining(deadline))
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _confirm(self, topic: str, partitions: int, seconds: float) -> None:
        """Raise :class:`TopicUnavailable` if Kafka says that the topic does not exist or has fewer partitions."""
        if self._embedded:  # it has one broker, which leads every partition
            raise TopicUnavailable(Unavailable.UNKNOWN_TOPIC)
        try:
            count = await self._partitions(topic, partitions, seconds)
        except TopicUnavailable as error:
            if not _is_transient(error):
                raise
            return
        if count < partitions:
            raise TopicUnavailable(Unavailable.UNKNOWN_TOPIC, f"{count} partitions, not {partitions}")

    def _question(self, topic: str, partitions: int, question: Question, seconds: float) -> Coroutine[Any, Any, Any]:
        match question:
            case "bounds":
                return self._bounds(topic, partitions, seconds)
            case "ends":
                return self._ends(topic, partitions, seconds)
            case _:
                return self._offsets(topic, partitions, question, seconds)

    async def _bounds(self, topic: str, partitions: int, seconds: float) -> LogBounds:
        outcomes = await asyncio.gather(
            self._partitions(topic, partitions, seconds),
            self._offsets(topic, partitions, "earliest", seconds),
            self._offsets(topic, partitions, "latest", seconds),
            return_exceptions=True,
        )
        for each in outcomes:  # an error of the topic says more than one of its offsets
            if isinstance(each, BaseException):
                raise each
        count, earliest, latest = outcomes
        return LogBounds(count, earliest, latest)  # type: ignore[arg-type]  # no errors: the results

    async def _ends(self, topic: str, partitions: int, seconds: float) -> tuple[int, Offsets]:
        now = time.monotonic()
        count, valid_until = self._counted.get(topic, (0, now))
        offsets = self._list_offsets(topic, partitions, "latest", seconds)
        if self._embedded or now < valid_until:
            return max(count, partitions), await _offsets_of(offsets)
        described = self._describe(topic, seconds)
        await _all_done([described, *offsets.values()])
        count = _partition_count(described)  # before the offsets: its error says more than theirs
        if len(self._counted) >= _MAX_COUNTED:
            self._counted.clear()
        self._counted[topic] = (count, now + _COUNT_SECONDS)
        return count, await _offsets_of(offsets)

    async def _partitions(self, topic: str, known: int, seconds: float) -> int:
        if self._embedded:  # it does not say, and never adds partitions
            return known
        described = self._describe(topic, seconds)
        await _all_done([described])
        return _partition_count(described)

    async def _offsets(self, topic: str, partitions: int, spec: Spec, seconds: float) -> dict[int, int]:
        return await _offsets_of(self._list_offsets(topic, partitions, spec, seconds))

    def _describe(self, topic: str, seconds: float) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = self._client().describe_topics(
            TopicCollection([topic]), request_timeout=seconds
        )[topic]
        return future

    def _list_offsets(self, topic: str, partitions: int, spec: Spec, seconds: float) -> Asked:
        request = {TopicPartition(topic, partition): _offset_spec(spec) for partition in range(partitions)}
        return self._client().list_offsets(request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=seconds)

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._config)
        return self._admin


async def _offsets_of(asked: Asked) -> dict[int, int]:
    await _all_done(list(asked.values()))
    try:
        return {at.partition: future.result().offset for at, future in asked.items()}
    except KafkaException as error:
        raise TopicUnavailable(Unavailable.UNREACHABLE, str(error.args[0].name())) from error


def _partition_count(described: concurrent.futures.Future[Any]) -> int:
    """Return how many partitions a topic has.

    Unlike an error of :func:`_offsets_of`, an error here says if the topic does not exist.
    """
    try:
        return len(described.result().partitions)
    except KafkaException as error:
        match error.args[0].code():
            case KafkaError.UNKNOWN_TOPIC_OR_PART:
                reason = Unavailable.UNKNOWN_TOPIC
            case KafkaError.TOPIC_AUTHORIZATION_FAILED:
                reason = Unavailable.NOT_AUTHORIZED
            case _:
                reason = Unavailable.UNREACHABLE
        raise TopicUnavailable(reason, str(error.args[0].name())) from error


async def _all_done(futures: Sequence[concurrent.futures.Future[Any]]) -> None:
    """Wait for all futures. Only the last one wakes the loop, not each of as many as there are partitions."""
    loop = asyncio.get_running_loop()
    everything: asyncio.Future[None] = loop.create_future()
    lock = threading.Lock()
    left = len(futures)

    def one_is_done(_: object) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_finish, everything)

    for future in futures:
        future.add_done_callback(one_is_done)
    if futures:
        await everything


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _remaining(deadline: float) -> float:
    """Return the seconds until ``deadline``; at least as many as a broker needs to answer."""
    return max(deadline - time.monotonic(), _MIN_SECONDS)


def _is_transient(error: TopicUnavailable) -> bool:
    return error.reason is Unavailable.UNREACHABLE and _code(error) in _TRANSIENT


def _code(error: TopicUnavailable) -> int | None:
    """Return librdkafka's code of the error that caused this one, if there is one."""
    cause = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None


def _offset_spec(spec: Spec) -> Any:
    match spec:
        case "earliest":
            return OffsetSpec.earliest()
        case "latest":
            return OffsetSpec.latest()
        case _:
            return OffsetSpec.for_timestamp(spec)
