"""Whatever is changed in a working file, the import answers: a plan, or errors with their lines. It never fails."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kafkaproxy.zilla.importer.importing import Options, plan_text
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_corpus import cases
from tests.support.zilla_samples import BASE, SSE

_FULL = """\
name: full
guards:
  jwt:
    type: jwt
    options:
      issuer: https://a.example
      audience: b
      keys: https://a.example/keys
      challenge: 10
  login:
    type: inline
    options:
      identity: ${{env.A}}
      credentials: ${{env.B}}
vaults:
  trust:
    type: filesystem
    options:
      trust: {store: t.p12, password: x}
bindings:
  tcp:
    type: tcp
    kind: server
    options:
      port: [7114, 7143]
    routes:
      - when:
          - port: 7143
        exit: tls
      - when:
          - port: 7114
        exit: http
  tls:
    type: tls
    kind: server
    vault: trust
    options:
      keys: [me]
      sni: [me]
    routes:
      - when:
          - authority: example.com
        exit: http
  http:
    type: http
    kind: server
    options:
      access-control:
        policy: cross-origin
        allow:
          origins: [https://a.example]
          credentials: true
        max-age: 3
      authorization:
        jwt:
          credentials:
            headers:
              authorization: Bearer {credentials}
    routes:
      - guarded:
          jwt: [read]
        when:
          - headers:
              :path: /items/{x}
              :method: GET|PUT
        exit: items
      - exit: sse
  sse:
    type: sse
    kind: server
    exit: streams
  streams:
    type: sse-kafka
    kind: proxy
    routes:
      - exit: client
        with:
          topic: ${guarded['jwt'].identity}-x
          event: {id: "${etag}"}
  items:
    type: http-kafka
    kind: proxy
    options:
      idempotency: {header: x}
      correlation: {headers: {reply-to: r}}
    routes:
      - when:
          - method: PUT
            path: /items/{id}
          - method: GET
            path: /items/{id};cid={correlationId}
        exit: client
        with:
          capability: produce
          topic: t
          key: ${params.id}
          reply-to: replies
          overrides: {a: b}
          async:
            location: /items/${params.id};cid=${correlationId}
  client:
    type: kafka
    kind: client
    options:
      servers: [a:1]
      authorization:
        login:
          credentials:
            mechanism: plain
            username: "{identity}"
            password: "{credentials}"
    routes:
      - when: [{topic: "*"}]
        exit: secure
  secure:
    type: tls
    kind: client
    options:
      sni: [a]
    exit: out
  out:
    type: tcp
    kind: client
telemetry: {}
"""
_CORPUS = [case.path.read_text() for case in cases()]
_WORDS = ["", "x", "[]", "{}", "null", "''", "*", "/{a}", "${{env.X}}", "${{x.y}}", "jwt", "http", "sse", "items", "-1", "7114"]
_WORDS += [
    "[[a]]",
    "{a: {b: c}}",
    "${params.nope}",
    "&a b",
    "*a",
    "${",
    "example.com:1",
    "cache_server",
    "proxy",
    "kafka",
    "tcp",
]

_EDITS = st.tuples(
    st.sampled_from(["drop", "double", "value", "indent", "outdent"]), st.integers(0, 200), st.sampled_from(_WORDS)
)


def _edit(lines: list[str], kind: str, index: int, word: str) -> None:
    index %= max(1, len(lines))
    line = lines[index]
    if kind == "drop":
        del lines[index]
    elif kind == "double":
        lines.insert(index, line)
    elif kind == "value":
        lines[index] = f"{line.partition(': ')[0].rstrip(':')}: {word}"
    elif kind == "indent":
        lines[index] = f"  {line}"
    else:
        lines[index] = line.removeprefix("  ")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([BASE, SSE, _FULL, *_CORPUS]), st.lists(_EDITS, min_size=1, max_size=3))
def test_an_edited_file_is_planned_or_refused(text: str, edits: list[tuple[str, int, str]]) -> None:
    lines = text.splitlines()
    for kind, index, word in edits:
        if lines:
            _edit(lines, kind, index, word)
    plan, report = plan_text("\n".join(lines) + "\n", "zilla.yaml", Options(environ={"A": "a", "BROKERS": "b:1"}))
    assert (plan == Plan()) is report.is_refused()
    for finding in report.of(Verdict.REFUSED):
        assert 0 <= finding.where.line <= len(lines) + 1
        assert finding.message
    if not report.is_refused():
        assert all(gateway.cluster for gateway in plan.gateways)
        assert any(entry.routes for gateway in plan.gateways for entry in gateway.entries)


def test_the_samples_themselves_are_importable() -> None:
    for text in (BASE, SSE, _FULL):
        _, report = plan_text(text, "zilla.yaml", Options())
        assert not report.is_refused()
