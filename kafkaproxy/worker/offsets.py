"""Where logs begin and end right now, asked once for everybody who asks at the same time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable

__all__ = ["LogOffsets", "Spec"]

_PATIENCE: Final = 5.0
# librdkafka answers _NOENT where it cannot find the leader of a partition: there is none, or it has yet to learn of it.
_UNKNOWN: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._NOENT)  # noqa: SLF001
Spec = Literal["earliest", "latest"] | int
"""Which offset: of the first record, after the last, or of the first record at or after a time (milliseconds)."""
Key = tuple[asyncio.AbstractEventLoop, str, int, Spec]


class LogOffsets:
    """Asks Kafka for offsets of a topic's partitions, as a reader of committed records sees them."""

    def __init__(self, admin_config: Mapping[str, Any]) -> None:
        self._config = dict(admin_config)
        self._admin: AdminClient | None = None
        self._running: dict[Key, asyncio.Future[dict[int, int]]] = {}
        self._next: dict[Key, asyncio.Future[dict[int, int]]] = {}

    async def ask(self, topic: str, partitions: int, spec: Spec = "latest") -> dict[int, int]:
        """Return partition → offset, from a question that was asked after this call; -1: no record is that young."""
        return await self._share((asyncio.get_running_loop(), topic, partitions, spec))

    async def partitions(self, topic: str) -> list[int]:
        """Return the topic's partitions, from a question that was asked after this call."""
        return sorted(await self._share((asyncio.get_running_loop(), topic, 0, "latest")))

    async def _share(self, key: Key) -> dict[int, int]:
        """Return the answer to a question.

        One that is under way may have been answered before the caller's moment: later callers share the next one.
        """
        running = self._running.get(key)
        if running is None:
            return await asyncio.shield(self._begin(key))
        following = self._next.get(key)
        if following is None:
            following = self._next[key] = asyncio.ensure_future(self._after(running, key))
        return await asyncio.shield(following)

    def _begin(self, key: Key) -> asyncio.Future[dict[int, int]]:
        _, topic, partitions, spec = key
        question = self._offsets(topic, partitions, spec) if partitions else self._partitions(topic)
        task = self._running[key] = asyncio.ensure_future(question)
        task.add_done_callback(lambda _: self._running.pop(key, None))
        return task

    async def _after(self, running: asyncio.Future[dict[int, int]], key: Key) -> dict[int, int]:
        await asyncio.wait((running,))
        self._next.pop(key, None)
        return await self._begin(key)

    async def _offsets(self, topic: str, partitions: int, spec: Spec) -> dict[int, int]:
        request = {TopicPartition(topic, partition): _offset_spec(spec) for partition in range(partitions)}
        futures = self._client().list_offsets(request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_PATIENCE)
        with _as_unavailable():
            results = await _results(list(futures.values()))
        return {at.partition: result.offset for at, result in zip(futures, results, strict=True)}

    async def _partitions(self, topic: str) -> dict[int, int]:
        future = self._client().describe_topics(TopicCollection([topic]), request_timeout=_PATIENCE)[topic]
        with _as_unavailable():
            return dict.fromkeys((each.id for each in (await asyncio.wrap_future(future)).partitions), 0)

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._config)
        return self._admin


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


def _offset_spec(spec: Spec) -> Any:
    match spec:
        case "earliest":
            return OffsetSpec.earliest()
        case "latest":
            return OffsetSpec.latest()
        case _:
            return OffsetSpec.for_timestamp(spec)
