"""A zilla.yaml that tests edit, line by line, and what they ask of its import."""

from __future__ import annotations

from pathlib import Path

from kafkaproxy.zilla.importer.importing import Options, plan_text
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import ImportReport, Verdict

__all__ = ["BASE", "SSE", "edited", "line_of", "planned", "refused", "refused_at", "said"]

BASE = """\
name: shop
bindings:
  tcp:
    type: tcp
    kind: server
    options:
      host: 0.0.0.0
      port: 7114
    exit: http
  http:
    type: http
    kind: server
    routes:
      - when:
          - headers:
              :path: /items/*
        exit: items
  items:
    type: http-kafka
    kind: proxy
    routes:
      - when:
          - method: PUT
            path: /items/{id}
        exit: cache_client
        with:
          capability: produce
          topic: items
          key: ${params.id}
      - when:
          - method: GET
            path: /items/{id}
        exit: cache_client
        with:
          capability: fetch
          topic: items
          filters:
            - key: ${params.id}
  cache_client:
    type: kafka
    kind: cache_client
    exit: cache_server
  cache_server:
    type: kafka
    kind: cache_server
    options:
      bootstrap:
        - items
    exit: kafka
  kafka:
    type: kafka
    kind: client
    options:
      servers:
        - ${{env.BROKERS}}
    exit: broker
  broker:
    type: tcp
    kind: client
"""

SSE = """\
name: live
bindings:
  tcp:
    type: tcp
    kind: server
    options:
      port: 7114
    exit: http
  http:
    type: http
    kind: server
    routes:
      - when:
          - headers:
              :path: /live/*
        exit: sse
      - exit: items
  sse:
    type: sse
    kind: server
    routes:
      - when:
          - path: /live/events
        exit: streams
  streams:
    type: sse-kafka
    kind: proxy
    routes:
      - when:
          - path: /live/{topic}
        exit: kafka
        with:
          topic: ${params.topic}
  items:
    type: http-kafka
    kind: proxy
    routes:
      - when:
          - method: POST
            path: /*
        exit: kafka
        with:
          capability: produce
          topic: items
  kafka:
    type: kafka
    kind: client
    options:
      servers:
        - localhost:9092
    exit: sys:tcp_client
"""


def edited(text: str, *edits: tuple[str, str]) -> str:
    """Return the text with each first part, which stands in it exactly once, replaced by the second."""
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
        text = text.replace(old, new)
    return text


def line_of(text: str, part: str) -> int:
    """Return the line of the first occurrence."""
    assert part in text
    return text[: text.index(part)].count("\n") + 1


def planned(text: str, folder: Path | None = None, **options: object) -> tuple[Plan, ImportReport]:
    """Plan a text that has to be importable."""
    plan, report = plan_text(text, "zilla.yaml", Options(**options), folder=folder)  # type: ignore[arg-type]
    assert not report.of(Verdict.REFUSED), list(report.lines())
    return plan, report


def refused(text: str, folder: Path | None = None, **options: object) -> list[str]:
    """Plan a text that has to be refused, and return the errors."""
    plan, report = plan_text(text, "zilla.yaml", Options(**options), folder=folder)  # type: ignore[arg-type]
    assert report.is_refused()
    assert plan == Plan()
    return [str(each) for each in report.of(Verdict.REFUSED)]


def refused_at(text: str, part: str, **options: object) -> str:
    """Plan a text that has to be refused for one reason, at the line where ``part`` first stands; return the error."""
    errors = refused(text, **options)  # type: ignore[arg-type]
    assert len(errors) == 1, errors
    assert errors[0].startswith(f"zilla.yaml:{line_of(text, part)}: "), errors[0]
    return errors[0]


def said(report: ImportReport, verdict: Verdict) -> str:
    """Return the findings of one kind as one text."""
    return "\n".join(str(each) for each in report.of(verdict))
