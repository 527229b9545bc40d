"""What a file may hold: one configuration or several, bare bindings, or a wrapper around either."""

from __future__ import annotations

import textwrap

from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_samples import BASE, edited, line_of, planned, refused, said


def _indented(text: str, by: int) -> str:
    return textwrap.indent(text, " " * by)


def _bindings(text: str = BASE) -> str:
    return text.split("bindings:\n")[1]


def test_the_namespace_names_the_gateway() -> None:
    plan, _ = planned(BASE)
    assert [gateway.name for gateway in plan.gateways] == ["shop"]


def test_the_name_can_be_given_instead() -> None:
    plan, _ = planned(BASE, gateway="other")
    assert [(gateway.name, gateway.source) for gateway in plan.gateways] == [("other", "other")]


def test_documents_of_a_stream_become_a_gateway_each_and_may_refer_to_each_other() -> None:
    text = (
        BASE
        + "---\n"
        + edited(BASE, ("name: shop", "name: second")).replace("exit: cache_client", "exit: shop:cache_client")
        + "---\nname: third\ntelemetry: {}\n"
    )
    plan, _ = planned(text)
    assert [gateway.name for gateway in plan.gateways] == ["shop", "second"]
    assert [cluster.origin for cluster in plan.clusters] == ["shop:kafka"]


def test_a_gateway_name_for_several_namespaces_is_refused() -> None:
    text = BASE + "---\n" + edited(BASE, ("name: shop", "name: second"))
    assert "several namespaces: shop, second" in refused(text, gateway="one")[0]


def test_two_documents_of_one_name_are_refused_at_the_second() -> None:
    errors = refused(BASE + "---\n" + BASE)
    assert errors[0].startswith(f"zilla.yaml:{BASE.count(chr(10)) + 2}: The name 'shop' is taken by the document at line 1.")


def test_a_compose_file_is_unwrapped_and_lines_are_those_of_the_file() -> None:
    inner = edited(BASE, ("topic: items\n          key", "topik: items\n          key")).replace("$", "$$")
    text = "services:\n  zilla: {}\nconfigs:\n  page:\n    content: <b>bindings</b>\n  zilla.yaml:\n    content: |\n"
    text += _indented(inner, 6)
    where = f"zilla.yaml:{line_of(text, 'topik')}: "
    assert any(error.startswith(where) and "'topik'" in error for error in refused(text))


def test_doubled_dollars_of_a_compose_file_are_single_ones() -> None:
    text = "services: {}\nconfigs:\n  zilla.yaml:\n    content: |\n" + _indented(BASE.replace("$", "$$"), 6)
    assert planned(text)[0] == planned(BASE)[0]


def test_helm_values_are_unwrapped_as_they_are() -> None:
    assert planned("image: zilla\nzilla.yaml: |\n" + _indented(BASE, 2))[0] == planned(BASE)[0]


def test_bare_bindings_take_their_name_from_the_file() -> None:
    plan, _ = planned(_bindings())
    assert [gateway.name for gateway in plan.gateways] == ["zilla"]


def test_a_mapping_alone_is_a_fragment_whose_cluster_is_guessed_aloud() -> None:
    mapping = BASE.split("  items:\n")[1].split("  cache_client:\n")[0]
    plan, report = planned("  items:\n" + mapping)
    (gateway,) = plan.gateways
    assert [(entry.name, len(entry.routes)) for entry in gateway.entries] == [("all", 2)]
    assert [cluster.bootstrap_servers for cluster in plan.clusters] == ["${{env.KAFKA_BOOTSTRAP_SERVERS}}"]
    assert "'cache_client' is not in this fragment" in said(report, Verdict.WARNING)


def test_the_cluster_of_a_fragment_can_be_named() -> None:
    mapping = BASE.split("  items:\n")[1].split("  cache_client:\n")[0]
    plan, report = planned("  items:\n" + mapping, cluster="main")
    assert [(cluster.name, cluster.existing) for cluster in plan.clusters] == [("main", True)]
    assert not report.of(Verdict.WARNING)


def test_an_exit_that_is_missing_from_a_whole_configuration_is_not_guessed() -> None:
    text = BASE.replace("  cache_client:\n", "  cache_klient:\n")
    assert "There is no binding 'cache_client'. Did you mean 'cache_klient'?" in refused(text)[0]


def test_what_is_no_configuration_is_refused() -> None:
    for text in ("", "---\n", "[1, 2]\n", "just a text\n", "a: 1\nb: 2\n"):
        assert len(refused(text)) == 1


def test_a_configuration_that_leads_to_no_mapping_is_not_zero_routes() -> None:
    errors = refused(
        "name: x\nbindings:\n  tcp:\n    type: tcp\n    kind: server\n    exit: echo\n"
        "  echo:\n    type: echo\n    kind: server\n"
    )
    assert "nothing to import" in errors[0]


def test_a_wrapper_inside_a_wrapper_is_not_followed() -> None:
    inner = "zilla.yaml: |\n" + _indented(BASE, 2)
    assert refused("zilla.yaml: |\n" + _indented(inner, 2))


def test_a_name_from_the_environment_needs_one_that_stays() -> None:
    text = edited(BASE, ("name: shop", "name: ${{env.NAMESPACE}}"))
    assert "--gateway" in refused(text)[0]
    assert planned(text, gateway="shop")[0] != Plan()
