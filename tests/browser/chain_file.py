"""The zilla.yaml of the test that goes all the way, and the edits that are made to it."""

from __future__ import annotations

import json

from tests.support.tokens import AUDIENCE, ISSUER, jwk

__all__ = ["broken", "edited", "first"]

_FILE = """\
name: chain
telemetry:
  metrics:
    - http.request.size
guards:
  jwt:
    type: jwt
    options:
      issuer: {issuer}
      audience: {audience}
      keys:
        - {key}
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
    options:
      authorization:
        jwt:
          credentials:
            headers:
              authorization: Bearer {{credentials}}
    routes:
      - when:
          - headers:
              :path: /chain/*
        exit: items
      - when:
          - headers:
              :path: /chain-live
        exit: sse
  items:
    type: http-kafka
    kind: proxy
    routes:
      - guarded:
          jwt:
            - write:stream
        when:
          - method: PUT
            path: /chain/{{id}}
        exit: cache_client
        with:
          capability: produce
          topic: {topic}
          key: ${{params.id}}
          overrides:
            kind: imported
      - when:
          - method: GET
            path: /chain/{{id}}
        exit: cache_client
        with:
          capability: fetch
          topic: {topic}
          filters:
            - key: ${{params.id}}
  sse:
    type: sse
    kind: server
    exit: streams
  streams:
    type: sse-kafka
    kind: proxy
    routes:
      - when:
          - path: /chain-live
        exit: cache_client
        with:
          topic: {topic}
  cache_client:
    type: kafka
    kind: cache_client
    exit: cache_server
  cache_server:
    type: kafka
    kind: cache_server
    exit: kafka
  kafka:
    type: kafka
    kind: client
    options:
      servers:
        - ${{{{env.KAFKA_BOOTSTRAP_SERVERS}}}}
    exit: broker
  broker:
    type: tcp
    kind: client
"""
_POST = """\
      - when:
          - method: POST
            path: /chain/new
        exit: cache_client
        with:
          capability: produce
          topic: {topic}
          key: ${{idempotencyKey}}
  sse:
"""


def first(topic: str) -> str:
    """Return the file as it is imported first: a guarded PUT, a GET, a stream."""
    return _FILE.format(issuer=ISSUER, audience=AUDIENCE, key=json.dumps(jwk("ES256")), topic=topic)


def broken(topic: str) -> str:
    """Return it with an unknown property."""
    return first(topic).replace("capability: fetch", "capability: fetsch")


def edited(topic: str) -> str:
    """Return it with another value of the override, without the stream, and with a POST."""
    text = first(topic).replace("kind: imported", "kind: edited").replace("  sse:\n", _POST.format(topic=topic), 1)
    lines = text.splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if "/chain-live" in line) - 2
    kept = [*lines[:start], *lines[start + 4 :]]
    text = "".join(kept)
    return text[: text.index("  sse:\n")] + text[text.index("  cache_client:\n") :]
