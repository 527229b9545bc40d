"""Names, references and properties: a closed grammar, in which every error names its line and the nearest known name."""

from __future__ import annotations

import pytest

from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_samples import BASE, SSE, edited, line_of, planned, refused, refused_at, said

_PRODUCE = "          topic: items\n          key"


@pytest.mark.parametrize(
    ("base", "old", "new", "part", "says"),
    [
        (BASE, "exit: items", "exit: itmes", "itmes", "There is no binding 'itmes'. Did you mean 'items'?"),
        (BASE, "exit: broker", "exit: brokr", "brokr", "Did you mean 'broker'?"),
        (BASE, "capability: fetch", "capability: fetsch", "fetsch", "Did you mean 'fetch'?"),
        (BASE, "options:\n      bootstrap", "optoins:\n      bootstrap", "optoins", "Did you mean 'options'?"),
        (BASE, "type: http\n", "type: htpp\n", "htpp", "Did you mean 'http'?"),
        (BASE, "kind: cache_server", "kind: cache_serve", "cache_serve\n", "Known here: cache_client, cache_server, client."),
        (BASE, _PRODUCE, _PRODUCE.replace("topic: items", "topic:"), "topic:\n", "is empty"),
        (BASE, _PRODUCE, _PRODUCE.replace("items", "[items]"), "[items]", "is not a text"),
        (BASE, "    exit: cache_server", "    exit: cache_server\n    vault: v", "vault: v", "unknown property 'vault'"),
        (BASE, "          - headers:", "          - header:", "header:\n", "Did you mean 'headers'?"),
        (BASE, "      port: 7114", "      port: http", "port: http", "Write it like 7114"),
        (SSE, "- path: /live/events", "- pth: /live/events", "pth", "Did you mean 'path'?"),
        (SSE, "- path: /live/events", "- path: ''", "path: ''", "is ''"),
        (SSE, "              :path: /live/*", "              :path: ''", ":path: ''", "is ''"),
        (SSE, "          topic: ${params.topic}", "          topics: x\n          topic: y", "topics", "Did you mean 'topic'?"),
        (SSE, "    type: sse-kafka", "    exit: kafka\n    type: sse-kafka", "exit: kafka", "an exit alone names no topic"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_stands(base: str, old: str, new: str, part: str, says: str) -> None:
    assert says in refused_at(edited(base, (old, new)), part)


@pytest.mark.parametrize("name", ["when", "guarded", "with", "exit"])
def test_a_property_that_lost_its_value_does_not_read_as_left_out(name: str) -> None:
    text = edited(SSE, ("          topic: ${params.topic}\n", f"          topic: events\n      - {name}:\n"))
    assert any(f"{name} is empty" in error for error in refused(text))


def test_roles_that_lost_their_list_are_no_empty_list() -> None:
    text = edited(BASE, ("        exit: items", "        guarded:\n          jwt:\n        exit: items"))
    assert any("guarded.jwt is not a list" in error for error in refused(text))


def test_bindings_that_lead_in_a_circle_are_refused() -> None:
    text = edited(BASE, ("    exit: kafka\n", "    exit: cache_client\n"))
    assert "in a circle: cache_client → cache_server → cache_client" in refused(text)[0]
    assert len(refused(text)) == 1


def test_a_binding_that_leads_to_itself_is_refused() -> None:
    assert "circle: http → http" in refused(edited(BASE, ("        exit: items", "        exit: http")))[0]


def test_a_circle_on_the_side_is_refused_too() -> None:
    side = "  a:\n    type: echo\n    kind: server\n    exit: b\n  b:\n    type: echo\n    kind: server\n    exit: a\n"
    assert "circle" in refused(BASE + side)[0]


def test_a_long_chain_is_no_circle_and_needs_no_recursion() -> None:
    chain = "".join(f"  b{n}:\n    type: echo\n    kind: server\n    exit: b{n + 1}\n" for n in range(3000))
    end = "  b3000:\n    type: echo\n    kind: server\n"
    planned(BASE + chain + end)


def test_an_unknown_type_on_the_way_to_a_mapping_is_refused() -> None:
    text = edited(BASE, ("    exit: http\n", "    exit: guardian\n"))
    text += "  guardian:\n    type: proxy\n    kind: server\n    exit: http\n"
    assert "on the way to a mapping, and its type 'proxy' is not understood" in refused_at(text, "    type: proxy")


def test_an_unknown_type_beside_the_way_is_listed_and_keeps_its_requests() -> None:
    text = edited(BASE, ("        exit: items", "        exit: side\n      - exit: items"))
    text += "  side:\n    type: http-filesystem\n    kind: proxy\n    anything: goes\n"
    plan, report = planned(text)
    assert [(entry.name, len(entry.routes)) for entry in plan.gateways[0].entries] == [("items-any", 0), ("all", 2)]
    assert f"zilla.yaml:{line_of(text, 'exit: side')}: " in said(report, Verdict.IGNORED)


def test_a_binding_without_a_type_is_refused() -> None:
    assert "has no type" in refused(edited(BASE, ("    type: http\n", "")))[0]


def test_a_binding_that_is_no_mapping_of_properties_is_refused() -> None:
    assert "bindings.odd is not a mapping" in refused(BASE + "  odd: x\n")[0]


def test_an_unknown_section_is_refused() -> None:
    text = BASE + "gaurds: {}\n"
    assert "Did you mean 'guards'?" in refused_at(text, "gaurds")


def test_a_guard_that_does_not_exist_is_refused_on_every_level() -> None:
    for old in (
        "        exit: items",
        "        exit: cache_client\n        with:\n          capability: fetch",
        "    exit: kafka\n",
    ):
        guarded = "        guarded:\n          jwt: [read]\n"
        new = (
            guarded + old
            if old.startswith("        ")
            else "    routes:\n      - guarded:\n          jwt: [read]\n        exit: kafka\n"
        )
        text = edited(BASE, (old, new))
        assert "There is no guard 'jwt'" in refused_at(text, "jwt: [read]")


def test_every_error_is_reported_at_once() -> None:
    text = edited(BASE, ("capability: fetch", "capability: fetsch"), ("exit: broker", "exit: brokr"))
    assert len(refused(text)) == 2


def test_an_expression_that_is_not_from_the_environment_is_refused() -> None:
    text = edited(BASE, ("${{env.BROKERS}}", "${{aws.secrets.brokers}}"))
    assert "Only ${{env.NAME}} is known" in refused(text)[0]


def test_a_choice_cannot_come_from_the_environment() -> None:
    text = edited(BASE, ("capability: fetch", "capability: ${{env.X}}"))
    assert "cannot come from the environment" in refused_at(text, "${{env.X}}")


def test_a_variable_that_is_not_set_is_a_warning_at_its_line_and_one_that_is_set_is_none() -> None:
    _, report = planned(BASE)
    (warning,) = report.of(Verdict.WARNING)
    assert (warning.where.line, "BROKERS" in warning.message) == (line_of(BASE, "${{env.BROKERS}}"), True)
    assert not planned(BASE, environ={"BROKERS": "a:1,b:2"})[1].of(Verdict.WARNING)


def test_a_value_that_is_given_is_checked_and_not_kept() -> None:
    assert "is not the address of a broker" in refused(BASE, environ={"BROKERS": "kafka://a"})[0]
    plan, report = planned(BASE, environ={"BROKERS": "a:1"})
    assert plan.clusters[0].bootstrap_servers == "${{env.BROKERS}}"
    assert list(report.variables) == ["BROKERS"]
