"""Converting librdkafka's messages to records."""

from __future__ import annotations

import logging
import operator
from typing import Any, Final

from confluent_kafka import Message

from kafkaproxy.worker.types import Headers, Record

__all__ = ["to_record"]

log = logging.getLogger("kafkaproxy.ingest")

# Not message.headers(): for a name that is not UTF-8, confluent-kafka returns a list with holes and leaves an exception set. A
# call through operator.methodcaller is checked by the interpreter; a direct call is not once it is specialised, and using the
# list would crash the process.
_read_headers: Final = operator.methodcaller("headers")


def to_record(message: Message) -> Record:
    """Return a consumed message as a record."""
    partition, offset = message.partition() or 0, message.offset() or 0
    headers = _headers(message)
    return Record(partition, offset, message.timestamp()[1], _bytes(message.key()), _bytes(message.value()), headers)


def _headers(message: Message) -> Headers:
    """Return the headers; none if a name is not UTF-8.

    The client library gives all headers or none, and one record must not stop ingest.
    """
    try:
        given: Any = _read_headers(message) or ()
    except (SystemError, UnicodeDecodeError):
        log.error("headers_unreadable topic=%s partition=%s offset=%s", message.topic(), message.partition(), message.offset())
        return ()
    return tuple(given)


def _bytes(content: str | bytes | None) -> bytes | None:
    """Narrow the type in the client's annotations: without a deserialiser the content is bytes."""
    return content.encode() if isinstance(content, str) else content
