"""Whatever is changed in a specification, the import answers with a plan or with errors, and opens nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kafkaproxy.specs.types import RouteSpec
from kafkaproxy.zilla.importer.importing import Options, plan_text
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_apis import DESK, PETS

_WORDS = ["", "x", "[]", "{}", "null", "''", "*", "/{a}", "${{env.X}}", "${{x.y}}", "keeper", "-1", "{a: {b: c}}", "[[a]]"]
_WORDS += ["[{a: b}]", "${params.nope}", "&a b", "*a", "api", "{$ref: '#/x'}", "{$ref: 5}", "https://a/{b}", "receive", "http"]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([PETS, DESK]),
    st.integers(0, 200),
    st.sampled_from(["drop", "double", "value", "indent", "outdent"]),
    st.sampled_from(_WORDS),
)
def test_an_edited_specification_is_planned_or_refused_and_opens_nothing(text: str, index: int, kind: str, word: str) -> None:
    lines = text.splitlines()
    index %= len(lines)
    line = lines[index]
    edited = {
        "drop": [],
        "double": [line, line],
        "value": [f"{line.partition(': ')[0].rstrip(':')}: {word}"],
        "indent": [f"  {line}"],
        "outdent": [line.removeprefix("  ")],
    }
    lines[index : index + 1] = edited[kind]
    plan, report = plan_text("\n".join(lines) + "\n", "zilla.yaml", Options(environ={"BROKERS": "b:1"}))
    assert (plan == Plan()) is report.is_refused()
    for finding in report.of(Verdict.REFUSED):
        assert 0 <= finding.where.line <= len(lines) + 1
        assert finding.where.file == "zilla.yaml"
    for entry in (entry for gateway in plan.gateways for entry in gateway.entries):
        assert all(entry.guarded or route.guarded for route in entry.routes if _was_guarded(route))


def _was_guarded(route: RouteSpec) -> bool:
    """Return True if this is the operation that the text guards: the one that writes pets, or the stream."""
    return route.capability == "stream" or any(each.method == "PUT" for each in route.conditions)
