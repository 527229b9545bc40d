"""Where logs begin and end right now, asked once for everybody who asks at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable

__all__ = ["LogOffsets", "Spec"]

_PATIENCE: Final = 5.0
_UNKNOWN: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)  # noqa: SLF001
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
        """Return partition → offset, from a question that was asked after this call; -1: no record is that young.

        A question that is under way may have been answered before the caller's moment: later callers share the next one.
        """
        key = (asyncio.get_running_loop(), topic, partitions, spec)
        running = self._running.get(key)
        if running is None:
            return await asyncio.shield(self._begin(key))
        following = self._next.get(key)
        if following is None:
            following = self._next[key] = asyncio.ensure_future(self._after(running, key))
        return await asyncio.shield(following)

    async def has_partition(self, topic: str, partition: int) -> bool:
        """Whether the topic has that partition by now."""
        try:
            await self._question(topic, [partition], "latest")
        except TopicUnavailable as error:
            if error.reason is Unavailable.UNKNOWN_TOPIC:
                return False
            raise
        return True

    def _begin(self, key: Key) -> asyncio.Future[dict[int, int]]:
        _, topic, partitions, spec = key
        task = self._running[key] = asyncio.ensure_future(self._question(topic, range(partitions), spec))
        task.add_done_callback(lambda _: self._running.pop(key, None))
        return task

    async def _after(self, running: asyncio.Future[dict[int, int]], key: Key) -> dict[int, int]:
        await asyncio.wait((running,))
        self._next.pop(key, None)
        return await self._begin(key)

    async def _question(self, topic: str, partitions: Iterable[int], spec: Spec) -> dict[int, int]:
        if self._admin is None:
            self._admin = AdminClient(self._config)
        request = {TopicPartition(topic, partition): _offset_spec(spec) for partition in partitions}
        futures = self._admin.list_offsets(request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_PATIENCE)
        try:
            results = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures.values()))
        except KafkaException as error:
            code = error.args[0].code()
            reason = Unavailable.UNKNOWN_TOPIC if code in _UNKNOWN else Unavailable.UNREACHABLE
            raise TopicUnavailable(reason, str(error.args[0].name())) from error
        return {at.partition: result.offset for at, result in zip(futures, results, strict=True)}


def _offset_spec(spec: Spec) -> Any:
    match spec:
        case "earliest":
            return OffsetSpec.earliest()
        case "latest":
            return OffsetSpec.latest()
        case _:
            return OffsetSpec.for_timestamp(spec)
