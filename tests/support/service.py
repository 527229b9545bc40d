"""A service behind a route with reply-to, as tests need it: it answers from a thread, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

__all__ = ["Asked", "Reply", "Service", "echo"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the service sees it."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    def header(self, name: str) -> bytes:
        """Return the last header of a name; empty where there is none."""
        return next((value or b"" for each, value in reversed(self.headers) if each == name), b"")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answers; the correlation id is added to the headers."""

    value: bytes | None = b""
    headers: Sequence[tuple[str, bytes | str | None]] = ((":status", b"200"),)
    times: int = 1


Answer = Callable[[Asked], Reply | None]


def echo(asked: Asked) -> Reply:
    """Answer 200 with the body of the request."""
    return Reply(asked.value)


class Service:
    """Reads a request topic from where it ends now, and answers with ``answer``; None leaves a request unanswered.

    ``id_header`` is the header of the request that holds the correlation id.
    """

    def __init__(self, bootstrap: str, topic: str, answer: Answer = echo, *, id_header: str = "zilla:correlation-id") -> None:
        self.asked: list[Asked] = []
        self.answer = answer
        self._id_header = id_header
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
        partitions = self._consumer.list_topics(topic, 10).topics[topic].partitions
        # The ends are asked for here, so that what is asked after the constructor returned is answered.
        parts = [TopicPartition(topic, each) for each in partitions]
        self._consumer.assign([TopicPartition(topic, p.partition, self._consumer.get_watermark_offsets(p)[1]) for p in parts])
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "message.max.bytes": 12 << 20})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._stop.set()
        self._thread.join()
        self._producer.flush(10)
        self._consumer.close()

    def reply(self, asked: Asked, reply: Reply) -> None:
        """Answer now."""
        headers: list[tuple[str, Any]] = list(reply.headers)
        headers.append(("zilla:correlation-id", asked.header(self._id_header)))
        for _ in range(reply.times):
            self._producer.produce(asked.header("zilla:reply-to").decode(), reply.value, asked.key, headers=headers)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until Kafka has every answer."""
        assert self._producer.flush(30) == 0

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.05)
            if message is not None and message.error() is None:
                self._answer(message)
            self._producer.poll(0)

    def _answer(self, message: Message) -> None:
        headers: Any = message.headers() or []
        key: Any = message.key()
        value: Any = message.value()
        asked = Asked(key, value, headers)
        self.asked.append(asked)
        if (reply := self.answer(asked)) is not None:
            self.reply(asked, reply)
