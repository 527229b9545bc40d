"""From librdkafka's messages to records."""

from __future__ import annotations

import logging
import operator
from typing import Any, Final

from confluent_kafka import Message

from kafkaproxy.worker.types import Headers, Record

__all__ = ["to_record"]

log = logging.getLogger("kafkaproxy.ingest")

# Not message.headers(): for a name that is not UTF-8 confluent-kafka returns a list with holes and leaves an exception behind.
# A call by this way is checked by the interpreter; a direct one is not, once it is hot, and using the list ends the process.
_read_headers: Final = operator.methodcaller("headers")


def to_record(message: Message) -> Record:
    """Take over what librdkafka consumed."""
    partition, offset = message.partition() or 0, message.offset() or 0
    headers = _headers(message)
    return Record(partition, offset, message.timestamp()[1], _bytes(message.key()), _bytes(message.value()), headers)


def _headers(message: Message) -> Headers:
    """Return the headers; none where a name is not UTF-8: the client gives all or nothing, and a record must not stop us."""
    try:
        given: Any = _read_headers(message) or ()
    except (SystemError, UnicodeDecodeError):
        log.error("headers_unreadable topic=%s partition=%s offset=%s", message.topic(), message.partition(), message.offset())
        return ()
    return tuple(given)


def _bytes(content: str | bytes | None) -> bytes | None:
    """Narrow what the client's annotations leave open: without a deserialiser it is bytes."""
    return content.encode() if isinstance(content, str) else content
