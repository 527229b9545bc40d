"""From the binding graph to gateways, entries and routes: order, barriers, narrowing and guards, all of them kept."""

from __future__ import annotations

import pytest

from kafkaproxy.specs.types import ConditionSpec, EntryConditionSpec, EntrySpec, FilterSpec
from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_samples import BASE, SSE, edited, line_of, planned, refused, refused_at, said

_GUARD = "guards:\n  jwt:\n    type: jwt\n    options:\n      issuer: https://a.example\n      audience: https://b.example\n"


def _entries(text: str) -> tuple[EntrySpec, ...]:
    (gateway,) = planned(text)[0].gateways
    return gateway.entries


def _conditions(entry: EntrySpec) -> list[str]:
    return [f"{row.level} {row}" for row in entry.conditions]


def test_produce_and_fetch_routes_keep_everything_they_say() -> None:
    (entry,) = _entries(BASE)
    produce, fetch = entry.routes
    assert (produce.name, produce.capability, produce.topic, produce.key) == (
        "put-items-id",
        "produce",
        "items",
        "${params.id}",
    )
    assert produce.conditions == (ConditionSpec(method="PUT", path="/items/{id}"),)
    assert (fetch.capability, fetch.filters, fetch.merge) == ("fetch", (FilterSpec(key="${params.id}"),), False)


def test_all_that_a_produce_route_can_say_is_imported() -> None:
    new = """key: ${params.id}
          acks: leader_only
          reply-to: replies
          correlation-id: x-correlation
          overrides:
            zilla:source: web
            "x-id": ${params.id}
          async:
            location: /items/${params.id};cid=${correlationId}
            x-poll: ${correlationId}"""
    (entry,) = _entries(edited(BASE, ("key: ${params.id}\n      -", new + "\n      -")))
    route = entry.routes[0]
    assert (route.acks, route.reply_to, route.correlation_header) == ("leader_only", "replies", "x-correlation")
    assert route.overrides == (("zilla:source", "web"), ("x-id", "${params.id}"))
    assert route.async_fields == (("location", "/items/${params.id};cid=${correlationId}"), ("x-poll", "${correlationId}"))


def test_all_that_a_fetch_route_can_say_is_imported() -> None:
    new = """filters:
            - key: ${params.id}
              headers: {color: red, size: "10"}
            - headers: {color: blue}
          merge:
            content-type: application/json
            patch: {initial: "[]", path: /-}"""
    plan, report = planned(edited(BASE, ("filters:\n            - key: ${params.id}", new)))
    route = plan.gateways[0].entries[0].routes[1]
    assert route.merge
    assert route.filters == (
        FilterSpec(key="${params.id}", headers={"color": "red", "size": "10"}),
        FilterSpec(headers={"color": "blue"}),
    )
    assert "merge.patch" in said(report, Verdict.IGNORED)


def test_the_fields_of_an_http_kafka_binding_become_the_gateways() -> None:
    options = """    kind: proxy
    options:
      idempotency: {header: Idempotency-Id}
      correlation: {headers: {reply-to: x-reply}}
    routes:
      - when:
          - method: PUT"""
    plan, _ = planned(edited(BASE, ("    kind: proxy\n    routes:\n      - when:\n          - method: PUT", options)))
    gateway = plan.gateways[0]
    assert (gateway.idempotency_header, gateway.reply_to_header) == ("idempotency-id", "x-reply")
    assert gateway.correlation_header == "zilla:correlation-id"


def test_mappings_that_disagree_about_these_fields_are_refused() -> None:
    text = edited(BASE, ("        exit: items\n", "        exit: items\n      - exit: others\n"))
    text += (
        "  others:\n    type: http-kafka\n    kind: proxy\n    options:\n      idempotency: {header: other}\n"
        "    routes:\n      - exit: cache_client\n        with: {capability: fetch, topic: others}\n"
    )
    assert "'others' has other correlation or idempotency headers than 'items'" in refused_at(text, "  others:")


def test_conditions_of_an_http_route_are_alternatives_with_all_their_parts() -> None:
    new = """          - headers:
              :scheme: https
              :authority: example.com:443
              :path: /items/*
              :method: GET|PUT
              content-type: application/json
          - headers:
              :path: /other"""
    (entry,) = _entries(edited(BASE, ("          - headers:\n              :path: /items/*", new)))
    full = {"scheme": "https", "authority": "example.com:443", "path": "/items/*"}
    assert entry.conditions == (
        EntryConditionSpec(**full, method="GET", headers={"content-type": "application/json"}),
        EntryConditionSpec(**full, method="PUT", headers={"content-type": "application/json"}),
        EntryConditionSpec(path="/other"),
    )


def test_an_alternative_that_tests_nothing_makes_the_others_needless() -> None:
    (entry,) = _entries(
        edited(BASE, ("              :path: /items/*", "              :path: /items/*\n          - headers: {}"))
    )
    assert entry.conditions == ()


@pytest.mark.parametrize("path", ["'*'", "/*"])
def test_a_path_that_takes_everything_is_no_condition(path: str) -> None:
    (entry,) = _entries(edited(BASE, (":path: /items/*", f":path: {path}")))
    assert (entry.name, entry.conditions) == ("all", ())


def test_parameters_of_an_outer_path_match_slashes_as_in_the_reference() -> None:
    (entry,) = _entries(edited(BASE, (":path: /items/*", ":path: /{kind}/{id}")))
    assert _conditions(entry) == ["0 /{kind}*/{id}*"]


def test_an_unknown_pseudo_field_and_a_regular_expression_are_refused() -> None:
    assert "no field ':query'" in refused_at(edited(BASE, (":path: /items/*", ":query: a=*")), ":query")
    assert "regular expression" in refused_at(edited(BASE, (":path: /items/*", ":path: /items(/.*)?")), ":path")


def test_a_field_name_with_capitals_is_imported_in_lower_case_and_said() -> None:
    plan, report = planned(edited(BASE, (":path: /items/*", "X-Tenant: acme")))
    assert plan.gateways[0].entries[0].conditions[0].headers == {"x-tenant": "acme"}
    assert "X-Tenant" in said(report, Verdict.WARNING)


def test_an_authority_without_a_port_is_a_warning() -> None:
    _, report = planned(edited(BASE, (":path: /items/*", ":authority: example.com")))
    assert "never matches" in said(report, Verdict.WARNING)


def test_an_exit_of_the_http_server_is_its_last_route() -> None:
    text = edited(BASE, ("        exit: items\n", "        exit: items\n    exit: side\n"))
    entries = _entries(text + "  side:\n    type: echo\n    kind: server\n")
    assert [(entry.name, entry.conditions == ()) for entry in entries] == [("items-any", False), ("all", True)]


def test_rewritten_requests_are_refused() -> None:
    options = (
        "    type: http\n    kind: server\n",
        "    type: http\n    kind: server\n    options:\n      overrides: {a: b}\n",
    )
    assert "overrides" in refused(edited(BASE, options))[0].lower()
    route = ("        exit: items", "        exit: items\n        with:\n          headers:\n            overrides: {a: b}")
    assert "change what later conditions see" in refused_at(edited(BASE, route), "            overrides:")


def test_request_models_are_refused() -> None:
    options = ("    type: http\n    kind: server\n", "    type: http\n    kind: server\n    options:\n      requests: []\n")
    assert "Models of requests" in refused_at(edited(BASE, options), "requests")


def test_sse_routes_become_entries_with_a_level_of_their_own_and_a_barrier() -> None:
    first, barrier, last = _entries(SSE)
    assert _conditions(first) == ["0 /live/*", "1 /live/events"]
    assert [(route.capability, route.topic) for route in first.routes] == [("stream", "${params.topic}")]
    assert (_conditions(barrier), barrier.routes) == (["0 /live/*"], ())
    assert [route.name for route in last.routes] == ["post-any"]


def test_an_sse_server_that_takes_every_path_needs_no_barrier() -> None:
    text = edited(
        SSE, ("    routes:\n      - when:\n          - path: /live/events\n        exit: streams", "    exit: streams")
    )
    assert [len(entry.routes) for entry in _entries(text)] == [1, 1]


def test_a_guarded_sse_route_is_followed_by_a_barrier_because_its_guard_may_refuse() -> None:
    guarded = "    routes:\n      - guarded:\n          jwt: [stream]\n        exit: streams"
    text = edited(SSE, ("    routes:\n      - when:\n          - path: /live/events\n        exit: streams", guarded)) + _GUARD
    assert [(dict(entry.guarded), len(entry.routes)) for entry in _entries(text)] == [
        ({"jwt": ("stream",)}, 1),
        ({}, 0),
        ({}, 1),
    ]


def test_guards_of_the_http_and_sse_levels_are_joined_with_all_their_roles() -> None:
    text = edited(
        SSE,
        ("        exit: sse\n", "        guarded:\n          jwt: [web]\n        exit: sse\n"),
        ("        exit: streams\n", "        guarded:\n          jwt: [stream]\n        exit: streams\n"),
        (
            "        with:\n          topic: ${params",
            "        guarded:\n          jwt: [read]\n        with:\n          topic: ${params",
        ),
    )
    first, barrier, _ = _entries(text + _GUARD)
    assert first.guarded == {"jwt": ("web", "stream")}
    assert first.routes[0].guarded == {"jwt": ("read",)}
    assert barrier.guarded == {"jwt": ("web",)}


def test_the_keyed_event_id_and_filters_of_a_stream_are_imported() -> None:
    new = """topic: ${params.topic}
          filters:
            - key: k
              headers: {tag: x}
          event:
            id: '["${base64(key)}","${etag}"]'"""
    route = _entries(edited(SSE, ("topic: ${params.topic}", new)))[0].routes[0]
    assert (route.event_id, route.filters) == ("key_and_etag", (FilterSpec(key="k", headers={"tag": "x"}),))


def test_an_sse_path_has_no_parameters_and_event_models_are_refused() -> None:
    assert "knows no parameters" in refused_at(edited(SSE, ("path: /live/events", "path: /live/{x}")), "path: /live/{x}")
    text = edited(SSE, ("    type: sse\n    kind: server\n", "    type: sse\n    kind: server\n    options: {requests: []}\n"))
    assert "Models of events" in refused(text)[0]


def test_a_mapping_behind_the_wrong_server_is_refused() -> None:
    assert "cannot come directly after an http server" in refused(edited(SSE, ("exit: sse\n", "exit: streams\n")))[0]
    assert "cannot come after an sse server" in refused(edited(SSE, ("        exit: streams\n", "        exit: items\n")))[0]


def test_a_mapping_that_two_routes_lead_to_is_imported_under_each_policy() -> None:
    text = edited(
        BASE,
        (
            "        exit: items\n",
            "        exit: items\n      - when:\n          - headers: {':path': /x/*}\n        exit: items\n",
        ),
    )
    assert [(entry.name, len(entry.routes)) for entry in _entries(text)] == [("items-any", 2), ("x-any", 2)]


def test_several_http_servers_become_a_gateway_each_and_merged_ports_are_said() -> None:
    routes = (
        "    routes:\n      - when: [{port: 7114}]\n        exit: http\n      - when: [{port: 7115}]\n        exit: admin\n"
    )
    text = edited(BASE, ("      port: 7114\n    exit: http\n", "      port: [7114, 7115]\n" + routes))
    text += "  admin:\n    type: http\n    kind: server\n    exit: items\n"
    plan, report = planned(text)
    assert [gateway.name for gateway in plan.gateways] == ["shop.http", "shop.admin"]
    assert "'admin' listens on its own port (7115)" in said(report, Verdict.WARNING)


def test_a_tcp_route_without_a_port_left_is_not_imported() -> None:
    text = edited(
        BASE, ("    exit: http\n", "    routes:\n      - exit: http\n      - when: [{port: 7114}]\n        exit: other\n")
    )
    plan, report = planned(text + "  other:\n    type: http\n    kind: server\n    exit: items\n")
    assert [gateway.name for gateway in plan.gateways] == ["shop"]
    assert "'other' is never reached" in said(report, Verdict.IGNORED)


def test_a_mapping_that_nothing_leads_to_is_listed() -> None:
    text = BASE + "  lost:\n    type: sse-kafka\n    kind: proxy\n    routes:\n      - exit: kafka\n        with: {topic: x}\n"
    _, report = planned(text)
    assert f"zilla.yaml:{line_of(text, '  lost:')}: The sse-kafka proxy binding 'lost' is not imported" in said(
        report, Verdict.IGNORED
    )


@pytest.mark.parametrize("name", ["cidr", "authority"])
def test_limits_on_addresses_are_refused(name: str) -> None:
    text = edited(BASE, ("    exit: http\n", f"    routes:\n      - when: [{{{name}: 127.0.0.1/32}}]\n        exit: http\n"))
    assert f"{name} limits the addresses" in refused_at(text, name)


def _behind_tls(options: str = "", routes: str = "    exit: http\n") -> str:
    text = edited(BASE, ("      port: 7114\n    exit: http\n", "      port: 7114\n    exit: tls\n"))
    tls = "  tls:\n    type: tls\n    kind: server\n    vault: keys\n    options:\n      keys: [localhost]\n"
    return text + tls + options + routes


def test_tls_ends_before_django_which_is_said() -> None:
    plan, report = planned(_behind_tls())
    assert _conditions(plan.gateways[0].entries[0]) == ["0 /items/*"]
    assert "TLS ends" in said(report, Verdict.IGNORED)
    assert "nothing here refuses plain HTTP" in said(report, Verdict.WARNING)


def test_a_server_name_that_tls_insists_on_becomes_a_level() -> None:
    routes = "    routes:\n      - when: [{authority: '*.example.com'}]\n        exit: http\n"
    (entry,) = _entries(_behind_tls(routes=routes))
    assert _conditions(entry) == ["0 /items/*", "1 https://*.example.com:*"]


def test_tls_that_chooses_between_servers_is_refused() -> None:
    routes = "    routes:\n      - when: [{authority: a.example.com}]\n        exit: http\n      - exit: other\n"
    text = _behind_tls(routes=routes) + "  other:\n    type: http\n    kind: server\n    exit: items\n"
    assert "chooses between several bindings" in refused(text)[0]


@pytest.mark.parametrize(
    "option", ["mutual: required", "mutual: requested", "trust: [ca]", "signers: [ca]", "authorization: {}"]
)
def test_client_certificates_are_refused(option: str) -> None:
    assert "client certificates" in refused_at(_behind_tls(f"      {option}\n"), option)


@pytest.mark.parametrize("condition", ["alpn: h2", "trust: ca", "mutual: required"])
def test_tls_conditions_that_django_cannot_see_are_refused(condition: str) -> None:
    text = _behind_tls(routes=f"    routes:\n      - when: [{{{condition}}}]\n        exit: http\n")
    assert "TLS ends before Django" in refused(text)[0]


def test_a_produce_route_without_a_method_says_which_methods_it_serves() -> None:
    _, report = planned(edited(BASE, ("          - method: PUT\n            path", "          - path")))
    assert "serves POST, PUT, PATCH and DELETE" in said(report, Verdict.WARNING)


@pytest.mark.parametrize(
    ("old", "new", "part", "says"),
    [
        ("key: ${params.id}\n      -", "key: ${params.nope}\n      -", "${params.nope}", "no {nope}"),
        ("key: ${params.id}\n      -", "key: ${parms.id}\n      -", "${parms.id}", "is not an expression"),
        ("topic: items\n          key", "topic: ${idempotencyKey}\n          key", "${idempotencyKey}", "cannot stand here"),
        ("key: ${params.id}\n      -", "key: a\n          async: {location: /x}\n      -", "async", "reply-to"),
        (
            "path: /items/{id}\n        exit: cache_client\n        with:\n          capability: produce",
            "path: /items/{id}/{id}\n        exit: cache_client\n        with:\n          capability: produce",
            "{id}/{id}",
            "stands twice",
        ),
        ("filters:\n            - key: ${params.id}", "filters:\n            - {}", "- {}", "empty filter"),
        (
            "topic: items\n          key",
            "topic: items\n          overrides: {'a b': c}\n          key",
            "'a b'",
            "not a valid field name",
        ),
    ],
)
def test_templates_are_checked_where_they_stand(old: str, new: str, part: str, says: str) -> None:
    errors = refused(text := edited(BASE, (old, new)))
    assert any(error.startswith(f"zilla.yaml:{line_of(text, part)}: ") and says in error for error in errors), errors


def test_a_rule_that_is_never_reached_is_a_warning() -> None:
    text = edited(
        BASE,
        (
            "        exit: items\n",
            "        exit: items\n      - when:\n          - headers: {':path': /items/x}\n        exit: items\n",
        ),
    )
    assert "never reached" in said(planned(text)[1], Verdict.WARNING)


def test_who_is_turned_away_by_a_guard_and_served_by_the_next_rule_is_a_warning() -> None:
    guarded = "        guarded:\n          jwt: [admin]\n        exit: items\n"
    text = edited(BASE, ("        exit: items\n", guarded + "      - exit: items\n")) + _GUARD
    assert "turned away by the guards of the entry 'items-any' is served by 'all'" in said(planned(text)[1], Verdict.WARNING)
    both = edited(
        BASE, ("        exit: items\n", guarded + "      - guarded:\n          jwt: [admin, more]\n        exit: items\n")
    )
    assert "turned away" not in said(planned(both + _GUARD)[1], Verdict.WARNING)


def test_what_is_left_out_is_listed() -> None:
    text = edited(BASE, ("    exit: http\n", "    exit: http\n    telemetry: {metrics: ['stream.*']}\n"))
    text += "telemetry:\n  exporters: {}\ncatalogs: {}\nvaults:\n  v: {type: filesystem}\n" + _GUARD
    listed = said(planned(text)[1], Verdict.IGNORED)
    for part in ("telemetry", "catalogs", "vaults", "The guard 'jwt'", "the address to listen on"):
        assert part in listed
    assert listed.count("telemetry: ") == 2


def test_planning_the_same_text_twice_gives_the_same_plan() -> None:
    assert planned(SSE)[0] == planned(SSE)[0]


def test_a_guarded_route_before_an_open_one_is_a_warning_where_they_meet() -> None:
    guarded = "          - method: GET\n            path: /items/{id}\n        guarded: {jwt: [read]}\n"
    text = edited(BASE, ("          - method: GET\n            path: /items/{id}\n", guarded)) + _GUARD
    more = "      - when: [{path: %s}]\n        exit: cache_client\n        with: {capability: fetch, topic: others}\n"
    more += "  cache_client:\n"
    meeting = edited(text, ("  cache_client:\n", more % "/items/*"))
    assert "by the guards of the route 'get-items-id' is served by 'fetch-items-any'" in said(
        planned(meeting)[1], Verdict.WARNING
    )
    apart = edited(text, ("  cache_client:\n", more % "/others/*"))
    assert "turned away" not in said(planned(apart)[1], Verdict.WARNING)


def test_an_sse_server_alone_is_a_fragment() -> None:
    (entry, barrier) = _entries("  sse:\n" + SSE.split("  sse:\n")[1].split("  items:\n")[0])
    assert (_conditions(entry), len(entry.routes)) == (["0 /live/events"], 1)
    assert (barrier.name, barrier.conditions, barrier.routes) == ("all", (), ())


def test_an_http_server_without_a_tcp_server_is_a_fragment() -> None:
    text = "name: part\nbindings:\n  http:\n" + BASE.split("  http:\n")[1].split("  cache_client:\n")[0]
    (entry,) = _entries(text)
    assert (_conditions(entry), len(entry.routes)) == (["0 /items/*"], 2)


def test_any_path_of_a_stream_is_no_condition() -> None:
    route = _entries(edited(SSE, ("path: /live/{topic}", "path: '*'"), ("topic: ${params.topic}", "topic: events")))[0].routes[
        0
    ]
    assert route.conditions == ()
