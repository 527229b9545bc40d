"""An expanded file makes the same plan as the file that one would write by hand."""

from __future__ import annotations

from kafkaproxy.zilla.importer.importing import Options, plan_file
from tests.support.zilla_apis import COMPOSITES
from tests.support.zilla_samples import planned

_DESK = """\
name: desk
guards:
  staff:
    type: jwt
    options:
      issuer: https://login.example
      audience: https://desk.example
bindings:
  tcp:
    type: tcp
    kind: server
    options: {port: 8080}
    exit: web
  web:
    type: http
    kind: server
    options:
      access-control: {policy: cross-origin}
      authorization:
        staff: {credentials: {headers: {authorization: "Bearer {credentials}"}}}
    routes:
      - guarded: {staff: ["tickets:write"]}
        when:
          - headers: {":path": /api/tickets, ":method": POST}
          - headers: {":path": /api/tickets/*, ":method": DELETE}
          - headers: {":path": /api/tickets/*, ":method": GET}
        exit: tickets
      - when:
          - headers: {":path": /api/status, ":method": GET}
        exit: status
  tickets:
    type: http-kafka
    kind: proxy
    routes:
      - guarded: {staff: ["tickets:write"]}
        when: [{method: POST, path: /api/tickets}]
        exit: cache
        with:
          capability: produce
          topic: desk-tickets
          key: ${idempotencyKey}
          overrides: {opened-by: "${guarded['staff'].identity}"}
      - guarded: {staff: ["tickets:write"]}
        when: [{method: DELETE, path: "/api/tickets/{id}"}]
        exit: cache
        with: {capability: produce, topic: desk-tickets, key: "${params.id}"}
      - guarded: {staff: ["tickets:write"]}
        when: [{method: GET, path: "/api/tickets/{id}"}]
        exit: cache
        with: {capability: fetch, topic: desk-tickets, filters: [{key: "${params.id}"}]}
  status:
    type: http-kafka
    kind: proxy
    routes:
      - when: [{method: GET, path: /api/status}]
        exit: cache
        with: {capability: fetch, topic: desk-status}
  cache:
    type: kafka
    kind: cache_client
    exit: store
  store:
    type: kafka
    kind: cache_server
    options: {bootstrap: [desk-tickets, desk-status]}
    exit: kafka
  kafka:
    type: kafka
    kind: client
    options: {servers: ["broker.example:9093"]}
    exit: tls
  tls:
    type: tls
    kind: client
    exit: out
  out:
    type: tcp
    kind: client
"""

_BANK = """\
name: bank
guards:
  login:
    type: jwt
    options:
      issuer: https://login.example
      audience: https://bank.example
bindings:
  tcp:
    type: tcp
    kind: server
    options: {port: 9090}
    exit: tls
  tls:
    type: tls
    kind: server
    options: {keys: [bank.example]}
    exit: web
  web:
    type: http
    kind: server
    options:
      access-control: {policy: cross-origin}
      authorization:
        login:
          credentials:
            headers: {authorization: "Bearer {credentials}"}
            query: {access_token: "{credentials}"}
    routes:
      - guarded: {login: [accounts]}
        when:
          - headers: {":path": /pay, ":method": POST}
        exit: requests
      - when:
          - headers: {":path": /balance, ":method": GET}
          - headers: {":path": /news/*, ":method": GET}
        exit: sse
  sse:
    type: sse
    kind: server
    exit: streams
  requests:
    type: http-kafka
    kind: proxy
    routes:
      - when: [{method: POST, path: /pay}]
        exit: cache
        with: {capability: produce, topic: payments, key: "${guarded['login'].identity}"}
  streams:
    type: sse-kafka
    kind: proxy
    routes:
      - guarded: {login: [accounts]}
        when: [{path: /balance}]
        exit: cache
        with: {topic: balances, filters: [{key: "${guarded['login'].identity}"}]}
      - when: [{path: "/news/{topic}"}]
        exit: cache
        with: {topic: news}
  cache:
    type: kafka
    kind: cache_client
    exit: store
  store:
    type: kafka
    kind: cache_server
    options: {bootstrap: [payments, balances, news]}
    exit: kafka
  kafka:
    type: kafka
    kind: client
    options:
      servers: ["broker.example:9092"]
      sasl: {mechanism: scram-sha-256, username: "${{env.KAFKA_USER}}", password: "${{env.KAFKA_PASSWORD}}"}
    exit: out
  out:
    type: tcp
    kind: client
"""


def test_operations_of_both_sides_are_what_one_writes_by_hand() -> None:
    assert plan_file(COMPOSITES / "asyncapi" / "zilla.yaml", Options())[0] == planned(_DESK)[0]


def test_streams_and_credentials_are_what_one_writes_by_hand() -> None:
    assert plan_file(COMPOSITES / "streams" / "zilla.yaml", Options())[0] == planned(_BANK)[0]
