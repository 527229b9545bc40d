"""Error responses: ``application/problem+json`` (RFC 9457) for every error on every path.

A body says what the client can do next. It contains no stack trace, no broker address and no credential.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

from kafkaproxy.worker.errors import ProduceError, ProduceFailure, TopicUnavailable, Unavailable

__all__ = ["Fields", "Problem", "as_problem", "from_unavailable", "retry_after"]

log = logging.getLogger("kafkaproxy.http")

Fields = list[tuple[bytes, bytes]]
_TYPE: Final = "urn:kafkaproxy:problem:"


class Problem(Exception):
    """An error response. ``code`` is a stable name of the kind of error; ``fields`` are added to the response."""

    def __init__(self, status: int, code: str, detail: str, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = list(fields)

    def body(self, route: str) -> bytes:
        """Return the JSON body. ``route``: the name of the route; empty if no route matched."""
        members: dict[str, object] = {
            "type": _TYPE + self.code,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if route:
            members["route"] = route
        return json.dumps(members, ensure_ascii=False).encode()


def retry_after(seconds: int) -> tuple[bytes, bytes]:
    """Return the ``retry-after`` field."""
    return b"retry-after", str(seconds).encode()


_PRODUCE_ANSWERS: Final[Mapping[ProduceFailure, tuple[int, str]]] = {
    ProduceFailure.TOO_LARGE: (413, "The record is larger than Kafka accepts: send a smaller body."),
    ProduceFailure.REJECTED: (
        400,
        "Kafka rejected the record. A compacted topic needs a key: check the route's key, then the topic's rules.",
    ),
    ProduceFailure.UNKNOWN_TOPIC: (503, "The topic of this route does not exist (yet). Ask an operator to create it."),
    ProduceFailure.UNREACHABLE: (503, "Kafka cannot be reached at the moment. Nothing was confirmed: try again."),
    ProduceFailure.QUEUE_FULL: (503, "Too many records wait to be sent. This one was not taken: try again."),
    ProduceFailure.NOT_AUTHORIZED: (502, "Kafka does not let this site write to the topic. Ask an operator."),
    ProduceFailure.TIMED_OUT: (
        504,
        "Kafka did not confirm the record in time; it may be written, now or later. Repeat it with the same idempotency key.",
    ),
}
_READ_ANSWERS: Final[Mapping[Unavailable, tuple[int, str]]] = {
    Unavailable.NOT_READ_YET: (503, "The topic is still being read for the first time. Try again in a moment."),
    Unavailable.UNKNOWN_TOPIC: (503, "The topic of this route does not exist (yet). Ask an operator to create it."),
    Unavailable.NOT_AUTHORIZED: (502, "Kafka does not let this site read the topic. Ask an operator."),
    Unavailable.UNREACHABLE: (503, "Kafka cannot be reached, and nothing of the topic is stored yet. Try again."),
    Unavailable.TOO_MANY_TOPICS: (503, "Too many topics are in use at once. Try again later."),
    Unavailable.STORE_FULL: (503, "The store is full. Ask an operator to raise its limit."),
    Unavailable.MISCONFIGURED: (503, "The Kafka cluster of this route is not configured. Ask an operator."),
}


def from_produce_error(error: ProduceError, seconds: int) -> Problem:
    """Return the problem for a record that was not acknowledged. ``seconds``: the ``retry-after`` of a 503."""
    status, detail = _PRODUCE_ANSWERS[error.reason]
    return Problem(status, f"produce-{_dashed(error.reason)}", detail, [retry_after(seconds)] if status == 503 else [])


def from_unavailable(error: TopicUnavailable, seconds: int) -> Problem:
    """Return the problem for a topic that cannot be read. ``seconds``: the ``retry-after`` of a 503."""
    status, detail = _READ_ANSWERS[error.reason]
    return Problem(status, f"topic-{_dashed(error.reason)}", detail, [retry_after(seconds)] if status == 503 else [])


def as_problem(error: Exception, route: str, seconds: int) -> Problem:
    """Return the problem for any error, and log the details that a client must not see."""
    match error:
        case Problem():
            return error
        case ProduceError():
            log.warning("produce_failed route=%s reason=%s detail=%s", route, error.reason, error.detail)
            return from_produce_error(error, seconds)
        case TopicUnavailable():
            log.warning("topic_unavailable route=%s reason=%s detail=%s", route, error.reason, error.detail)
            return from_unavailable(error, seconds)
        case _:
            log.error("request_failed route=%s", route, exc_info=error)
            return Problem(500, "internal", "This is a bug of the site. The log has the details.")


def _dashed(reason: str) -> str:
    return str(reason).replace("_", "-")
