"""Where logs begin and end right now, asked once for everybody who asks at the same time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable

__all__ = ["Log", "LogOffsets", "Spec"]

_PATIENCE: Final = 5.0
# librdkafka answers _NOENT where it cannot find the leader of a partition: there is none, or it has yet to learn of it.
_UNKNOWN: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._NOENT)  # noqa: SLF001
_MOVING: Final = frozenset(
    {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH}
    | {KafkaError.UNKNOWN_LEADER_EPOCH}
)
"""A partition's leader is another broker from now on. The client library learns of it, but does not ask again."""
_AGAIN_SECONDS: Final = 0.1
_COUNT_SECONDS: Final = 1.0
_MAX_COUNTED: Final = 10_000
Spec = Literal["earliest", "latest"] | int
"""Which offset: of the first record, after the last, or of the first record at or after a time (milliseconds)."""
Offsets = Mapping[int, int]
Asked = Mapping[TopicPartition, concurrent.futures.Future[Any]]
Question = Spec | Literal["log", "ends"]
Key = tuple[asyncio.AbstractEventLoop, str, int, Question]


@dataclass(frozen=True, slots=True)
class Log:
    """A topic as Kafka has it."""

    partitions: int
    earliest: Offsets
    latest: Offsets


class LogOffsets:
    """Asks Kafka for offsets of a topic's partitions, as a reader of committed records sees them.

    A question is asked after the call that needs its answer. Who asks the same while it is under way shares the next one. It is
    asked again while leaders change, for a while.
    """

    def __init__(self, admin_config: Mapping[str, Any], *, embedded: bool = False) -> None:
        self._config = dict(admin_config)
        self._embedded = embedded
        self._admin: AdminClient | None = None
        self._running: dict[Key, asyncio.Future[Any]] = {}
        self._next: dict[Key, asyncio.Future[Any]] = {}
        self._counted: dict[str, tuple[int, float]] = {}
        """Topic → how many partitions, and until when that is believed."""

    async def ask(self, topic: str, partitions: int, spec: Spec = "latest") -> dict[int, int]:
        """Return partition → offset; -1: no record is that young."""
        offsets: dict[int, int] = await self._share((asyncio.get_running_loop(), topic, partitions, spec))
        return offsets

    async def log(self, topic: str, partitions: int) -> Log:
        """Return how many partitions there are, and where the first ``partitions`` begin and end."""
        log: Log = await self._share((asyncio.get_running_loop(), topic, partitions, "log"))
        return log

    async def ends(self, topic: str, partitions: int) -> tuple[int, Offsets]:
        """Return how many partitions there are, and where the first ``partitions`` end.

        As quick as :meth:`ask`, since the number is that of a second ago at worst: it costs Kafka as much as all the ends.
        """
        ends: tuple[int, Offsets] = await self._share((asyncio.get_running_loop(), topic, partitions, "ends"))
        return ends

    async def _share(self, key: Key) -> Any:
        running = self._running.get(key)
        if running is None:
            return await asyncio.shield(self._begin(key))
        following = self._next.get(key)
        if following is None:
            following = self._next[key] = asyncio.ensure_future(self._after(running, key))
        return await asyncio.shield(following)

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
                return await self._question(topic, partitions, question)
            except TopicUnavailable as error:
                if not _is_moving(error) or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)

    def _question(self, topic: str, partitions: int, question: Question) -> Coroutine[Any, Any, Any]:
        match question:
            case "log":
                return self._log(topic, partitions)
            case "ends":
                return self._ends(topic, partitions)
            case _:
                return self._offsets(topic, partitions, question)

    async def _log(self, topic: str, partitions: int) -> Log:
        questions = (self._offsets(topic, partitions, "earliest"), self._offsets(topic, partitions, "latest"))
        outcomes = await asyncio.gather(self._partitions(topic, partitions), *questions, return_exceptions=True)
        errors = [each for each in outcomes if isinstance(each, BaseException)]
        if errors:  # of several reasons, "unknown" is the weaker: librdkafka may just not have been told
            raise min(errors, key=lambda each: getattr(each, "reason", None) is Unavailable.UNKNOWN_TOPIC)
        count, earliest, latest = outcomes
        return Log(count, earliest, latest)  # type: ignore[arg-type]  # no errors: the results

    async def _ends(self, topic: str, partitions: int) -> tuple[int, Offsets]:
        now = time.monotonic()
        count, good_until = self._counted.get(topic, (0, now))
        offsets = self._list_offsets(topic, partitions, "latest")
        if self._embedded or now < good_until:
            return max(count, partitions), await _offsets_of(offsets)
        described = self._describe(topic)  # its reason first, as it is the stronger
        with _as_unavailable():
            description, *results = await _results([described, *offsets.values()])
        count = len(description.partitions)
        if len(self._counted) >= _MAX_COUNTED:
            self._counted.clear()
        self._counted[topic] = (count, now + _COUNT_SECONDS)
        return count, {at.partition: each.offset for at, each in zip(offsets, results, strict=True)}

    async def _partitions(self, topic: str, known: int) -> int:
        if self._embedded:  # it does not tell, and never makes more
            return known
        with _as_unavailable():
            return len((await asyncio.wrap_future(self._describe(topic))).partitions)

    async def _offsets(self, topic: str, partitions: int, spec: Spec) -> dict[int, int]:
        return await _offsets_of(self._list_offsets(topic, partitions, spec))

    def _describe(self, topic: str) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = self._client().describe_topics(
            TopicCollection([topic]), request_timeout=_PATIENCE
        )[topic]
        return future

    def _list_offsets(self, topic: str, partitions: int, spec: Spec) -> Asked:
        request = {TopicPartition(topic, partition): _offset_spec(spec) for partition in range(partitions)}
        return self._client().list_offsets(request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_PATIENCE)

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._config)
        return self._admin


async def _offsets_of(asked: Asked) -> dict[int, int]:
    with _as_unavailable():
        results = await _results(list(asked.values()))
    return {at.partition: result.offset for at, result in zip(asked, results, strict=True)}


async def _results(futures: Sequence[concurrent.futures.Future[Any]]) -> list[Any]:
    """Wait for all. The last one wakes the loop, not every one of as many as there are partitions."""
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
    return [future.result() for future in futures]


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        reason = Unavailable.UNKNOWN_TOPIC if error.args[0].code() in _UNKNOWN else Unavailable.UNREACHABLE
        raise TopicUnavailable(reason, str(error.args[0].name())) from error


def _is_moving(error: TopicUnavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, KafkaException) and cause.args[0].code() in _MOVING


def _offset_spec(spec: Spec) -> Any:
    match spec:
        case "earliest":
            return OffsetSpec.earliest()
        case "latest":
            return OffsetSpec.latest()
        case _:
            return OffsetSpec.for_timestamp(spec)
