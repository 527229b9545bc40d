"""The metrics. They are declared here and nowhere else; labels come from closed sets: names of the configuration, never paths.

To record is to add to the integer of a :class:`Cell` that was looked up before. Increments of several threads at once may lose
one; no metric is worth a lock on the request path. Every number is that of one process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final

__all__ = ["BROKER_UP", "MERGE_SKIPPED", "RECORDS", "REPLIES_UNUSABLE", "REPLY_FIELDS_DROPPED", "RESPONSES", "STORE_BYTES"]
__all__ += ["STORE_FRESH", "STORE_TAKEOVERS", "TOPICS_STOPPED"]
__all__ += ["Cell", "Metric", "answers", "counting", "render"]

_CLASSES: Final = ("", "", "2xx", "3xx", "4xx", "5xx")
"""Status class by the first digit of a status. No response has a status that begins with 0 or 1."""
Labels = tuple[str, ...]
Answers = tuple["Cell", ...]
"""The cells of a route, by the first digit of the status."""


class Cell:
    """One number: add to ``value``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Metric:
    """A counter or a gauge, with a cell for each combination of labels that occurred."""

    def __init__(self, kind: str, name: str, text: str, labels: Labels) -> None:
        self.kind = kind
        self.name = name
        self.text = text
        self.labels = labels
        self.cells: dict[Labels, Cell] = {}

    def cell(self, *labels: str) -> Cell:
        """Return the cell of these labels."""
        cell = self.cells.get(labels)
        return self.cells.setdefault(labels, Cell()) if cell is None else cell


RESPONSES: Final = Metric(
    "counter",
    "kafkaproxy_responses_total",
    "Responses by route and class of status. Without a route: refused before a route was chosen.",
    ("gateway", "route", "capability", "status"),
)
RECORDS: Final = Metric(
    "counter",
    "kafkaproxy_records_produced_total",
    "Records handed to Kafka, by outcome: acknowledged, or why not.",
    ("cluster", "outcome"),
)
REPLY_FIELDS_DROPPED: Final = Metric(
    "counter",
    "kafkaproxy_reply_fields_dropped_total",
    "Headers of replies that were left out of responses because they are not valid fields.",
    ("gateway", "route"),
)
REPLIES_UNUSABLE: Final = Metric(
    "counter",
    "kafkaproxy_replies_unusable_total",
    "Replies whose :status is not a status code, answered 502.",
    ("gateway", "route"),
)
MERGE_SKIPPED: Final = Metric(
    "counter",
    "kafkaproxy_merge_records_skipped_total",
    "Records that were left out of merged responses because they are not JSON, counted in each merge.",
    ("gateway", "route"),
)
BROKER_UP: Final = Metric(
    "gauge",
    "kafkaproxy_broker_up",
    "1 if Kafka answered its last request, 0 if not.",
    ("cluster",),
)
STORE_BYTES: Final = Metric(
    "gauge",
    "kafkaproxy_store_bytes",
    "Bytes of the store that topics use, reported by the process that writes it.",
    ("cluster",),
)
STORE_FRESH: Final = Metric(
    "gauge",
    "kafkaproxy_store_fresh",
    "1 if the process that writes the store wrote a heartbeat lately, 0 if not. At 0 nothing is served from it.",
    ("cluster",),
)
STORE_TAKEOVERS: Final = Metric(
    "counter",
    "kafkaproxy_store_takeovers_total",
    "How often this process made a new store because the process that wrote the former one was frozen.",
    ("cluster",),
)
TOPICS_STOPPED: Final = Metric(
    "gauge",
    "kafkaproxy_topics_stopped",
    "Topics that are not read because the store has no capacity for them, reported by the process that writes it.",
    ("cluster",),
)
_DECLARED: Final = (
    *(RESPONSES, RECORDS, REPLY_FIELDS_DROPPED, REPLIES_UNUSABLE, MERGE_SKIPPED),
    *(BROKER_UP, STORE_BYTES, STORE_FRESH, STORE_TAKEOVERS, TOPICS_STOPPED),
)
_GAUGES: Final[Mapping[str, str]] = {
    "kafkaproxy_streams_open": "Open event streams.",
    "kafkaproxy_requests_waiting": "Requests that wait for a reply or a change.",
}

_answers: dict[Labels, Answers] = {}


def answers(gateway: str, route: str = "", capability: str = "") -> Answers:
    """Return the cells of a route's responses, by the first digit of the status."""
    key = (gateway, route, capability)
    cells = _answers.get(key)
    if cells is None:
        cells = _answers.setdefault(key, tuple(RESPONSES.cell(*key, each) if each else Cell() for each in _CLASSES))
    return cells


Send = Callable[[Any], Awaitable[None]]


def counting(send: Send, cells: Answers) -> Send:
    """Return an ASGI ``send`` that counts the status of the response."""

    def counted(message: Any) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            cells[min(message["status"] // 100, 5)].value += 1
        return send(message)

    return counted


def render(*, streams: int, waiting: int) -> str:
    """Return all metrics in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []
    for metric in _DECLARED:
        rows = ((_labelled(metric.name, metric.labels, each), cell.value) for each, cell in sorted(metric.cells.items()))
        lines += _family(metric.name, metric.kind, metric.text, rows)
    for (name, text), value in zip(_GAUGES.items(), (streams, waiting), strict=True):
        lines += _family(name, "gauge", text, [(name, value)])
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str, rows: Iterable[tuple[str, int]]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for series, value in rows:
        yield f"{series} {value}"


def _labelled(name: str, labels: Labels, values: Labels) -> str:
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True))
    return f"{name}{{{pairs}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
