"""Random gateways, exported and imported: what goes out without a loss comes back the same. No database."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kafkaproxy.zilla.exporter.exporting import differences, export_plan
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import ExportReport, Verdict
from kafkaproxy.zilla.yaml.read import read_text
from kafkaproxy.zilla.yaml.tree import plain_data
from kafkaproxy.zilla.yaml.write import to_yaml
from tests.support.export_gateways import plans
from tests.support.zilla_samples import planned
from tests.support.zilla_schema import schema_errors


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plans(), st.sampled_from([1, 2]))
def test_what_zilla_has_goes_out_and_comes_back(plan: Plan, dialect: int) -> None:
    export = export_plan(plan, dialect, ExportReport())
    assert [str(each) for each in export.report.findings if each.verdict is not Verdict.WARNING] == []
    back, _report = planned(export.text)
    assert list(differences(plan, back)) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plans())
def test_what_goes_out_is_what_the_schema_of_zilla_wants(plan: Plan) -> None:
    assert schema_errors(export_plan(plan, 1, ExportReport()).text) == []


@given(st.recursive(st.text(st.characters(exclude_categories=["Cs"])), lambda inner: st.lists(inner, max_size=3)))
def test_a_text_is_read_as_the_text_it_was(tree: Any) -> None:
    (root,) = read_text(to_yaml({"value": tree}))
    assert plain_data(root) == {"value": tree}
