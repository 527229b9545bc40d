"""What tests do with a cluster from outside the proxy: create topics, produce, and read back with ``kcat``."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

__all__ = ["Cluster", "Consumed"]

_TIMEOUT: Final = 30.0
_SOON_AT_THE_END: Final = {"fetch.wait.max.ms": "10"}
"""The broker holds a fetch at the end of a partition for that long, by default for half a second."""
Headers = Sequence[tuple[str, "str | bytes | None"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """A record as an independent client sees it, in text."""

    partition: int
    offset: int
    timestamp: int
    key: str | None
    value: str | None
    headers: list[tuple[str, str | None]]

    def header(self, name: str) -> str | None:
        """Return the value of the only header of that name."""
        (value,) = [value for each, value in self.headers if each == name]
        return value


class Cluster:
    """A cluster that runs; this process need not have started it."""

    def __init__(self, bootstrap: str, **options: Any) -> None:
        self.bootstrap = bootstrap
        self._client = {"bootstrap.servers": bootstrap, **options}

    @cached_property
    def admin(self) -> AdminClient:
        """An admin client, for what has no method here."""
        return AdminClient(self._client)

    @cached_property
    def producer(self) -> Producer:
        """A producer that partitions as Java's does."""
        return Producer({**self._client, "partitioner": "murmur2_random", "message.max.bytes": 12 * 1024 * 1024})

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Create a topic, wait until clients see all of it, and return its name. It keeps records for ever, unless told."""
        # Our broker looks for what is too old every second, and tests write records of 1970.
        kept = {"retention.ms": "-1", **(config or {})}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=kept)
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                self.admin.create_topics([new])[name].result(_TIMEOUT)
                break
            except KafkaException as error:  # a broker that was frozen is fenced until it has said that it is back
                if error.args[0].code() != KafkaError.INVALID_REPLICATION_FACTOR or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)
        self._wait_for_partitions(name, partitions)
        return name

    def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics and wait until clients no longer see them; unknown ones are fine."""
        for name, future in self.admin.delete_topics(list(names)).items():
            try:
                future.result(_TIMEOUT)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
            self._wait_for_partitions(name, 0)

    def add_partitions(self, topic: str, total: int) -> None:
        """Grow a topic to ``total`` partitions."""
        self.admin.create_partitions([NewPartitions(topic, total)])[topic].result(_TIMEOUT)
        self._wait_for_partitions(topic, total)
        self.producer.list_topics(topic, _TIMEOUT)  # it would go by what it knew for minutes

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Move the log start of partitions, as retention does: partition → first offset that stays."""
        positions = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        for future in self.admin.delete_records(positions).values():
            future.result(_TIMEOUT)

    def produce(
        self,
        topic: str,
        value: str | bytes | None,
        *,
        key: str | bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp: int = 0,
    ) -> tuple[int, int]:
        """Produce one record and return its partition and offset. ``timestamp`` 0 is now."""
        (position,) = self.produce_many(
            topic,
            [{"value": value, "key": key, "headers": list(headers), "timestamp": timestamp}],
            partition=partition,
        )
        return position

    def produce_many(
        self, topic: str, records: Iterable[Mapping[str, Any]], *, partition: int | None = None
    ) -> list[tuple[int, int]]:
        """Produce records (keyword arguments of ``Producer.produce``) and return where they are, in their order."""
        delivered: dict[int, tuple[int, int]] = {}
        where = {} if partition is None else {"partition": partition}
        count = 0
        for count, record in enumerate(records, 1):
            self._produce_one(topic, {**where, **record}, count, delivered)
        while len(delivered) < count:
            if self.producer.flush(_TIMEOUT):
                raise TimeoutError(f"{count - len(delivered)} records of {topic} were not acknowledged")
        return [delivered[number] for number in sorted(delivered)]

    def _produce_one(self, topic: str, record: Mapping[str, Any], number: int, delivered: dict[int, tuple[int, int]]) -> None:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise KafkaException(error)
            delivered[number] = (message.partition() or 0, message.offset() or 0)

        while True:
            try:
                self.producer.produce(topic, **record, on_delivery=report)
            except BufferError:
                self.producer.poll(1)
            else:
                self.producer.poll(0)
                return

    def ends(self, topic: str) -> dict[int, int]:
        """Return the high watermark of every partition."""
        deadline = time.monotonic() + _TIMEOUT
        while True:
            partitions = self.admin.list_topics(topic, _TIMEOUT).topics[topic].partitions
            asked = self.admin.list_offsets({TopicPartition(topic, each): OffsetSpec.latest() for each in partitions})
            try:
                return {at.partition: future.result(_TIMEOUT).offset for at, future in asked.items()}
            except KafkaException:  # of a topic that is new, its broker need not know yet
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def consume(self, topic: str) -> list[Consumed]:
        """Return all records of a topic up to now, by partition and offset, read with ``kcat`` where it is installed."""
        kcat = shutil.which("kcat") or shutil.which("kafkacat")
        records = self._kcat(kcat, topic) if kcat else self._consume(topic)
        return sorted(records, key=lambda record: (record.partition, record.offset))

    def wait_for(self, topic: str, count: int, *, timeout: float = _TIMEOUT) -> list[Consumed]:
        """Return the records of a topic as soon as there are ``count`` of them."""
        deadline = time.monotonic() + timeout
        while len(records := self.consume(topic)) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} has {len(records)} records, not {count}, after {timeout:g} s")
            time.sleep(0.1)
        return records

    def _kcat(self, kcat: str, topic: str) -> list[Consumed]:
        given = {**_SOON_AT_THE_END, **self._client}
        options = [f"-X{name}={value}" for name, value in given.items() if name != "bootstrap.servers"]
        command = [kcat, "-b", self.bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J", *options]
        shown = subprocess.run(command, capture_output=True, check=False, timeout=120)
        if shown.returncode != 0:
            raise RuntimeError(f"kcat failed: {shown.stderr.decode(errors='replace')}")
        return [_from_kcat(json.loads(line)) for line in shown.stdout.decode(errors="replace").splitlines()]

    def _consume(self, topic: str) -> list[Consumed]:
        consumer = Consumer({**_SOON_AT_THE_END, **self._client, "group.id": "unused", "enable.partition.eof": True})
        try:
            partitions = consumer.list_topics(topic, _TIMEOUT).topics[topic].partitions
            consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
            return _until_end(consumer, len(partitions))
        finally:
            consumer.close()

    def _wait_for_partitions(self, topic: str, count: int) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while self._partitions_with_leader(topic) != count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} does not show {count} partitions")
            time.sleep(0.02)

    def _partitions_with_leader(self, topic: str) -> int:
        found = self.admin.list_topics(timeout=_TIMEOUT).topics.get(topic)
        return 0 if found is None else sum(each.leader >= 0 for each in found.partitions.values())


def _from_kcat(shown: Mapping[str, Any]) -> Consumed:
    flat = shown.get("headers") or []
    return Consumed(
        partition=shown["partition"],
        offset=shown["offset"],
        timestamp=shown["ts"],
        key=shown["key"],
        value=shown["payload"],
        headers=list(zip(flat[::2], flat[1::2], strict=True)),
    )


def _until_end(consumer: Consumer, partitions: int) -> list[Consumed]:
    records: list[Consumed] = []
    while partitions:
        message = consumer.poll(_TIMEOUT)
        if message is None:
            raise TimeoutError("the topic was not read to its end")
        error = message.error()
        if error is None:
            records.append(_from_message(message))
        elif error.code() == KafkaError._PARTITION_EOF:
            partitions -= 1
        else:
            raise KafkaException(error)
    return records


def _from_message(message: Message) -> Consumed:
    headers: Any = message.headers()
    return Consumed(
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp=message.timestamp()[1],
        key=_text(message.key()),
        value=_text(message.value()),
        headers=[(name, _text(value)) for name, value in headers or []],
    )


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
