"""The Kafka side: clusters, SASL in both dialects, TLS, topics, and which guards protect which."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafkaproxy.zilla.plan import ClusterPlan, TopicPlan
from kafkaproxy.zilla.report import Verdict
from tests.support.zilla_samples import BASE, edited, planned, refused, refused_at, said

_SERVERS = "      servers:\n        - ${{env.BROKERS}}\n"
_CACHE = "    options:\n      bootstrap:\n        - items\n"
_INLINE = """\
guards:
  kafka_login:
    type: inline
    options:
      identity: ${{env.USER_NAME}}
      credentials: ${{env.PASS}}
"""


def _cluster(text: str, **options: object) -> ClusterPlan:
    (cluster,) = planned(text, **options)[0].clusters  # type: ignore[arg-type]
    return cluster


def _with_sasl(lines: str) -> str:
    return edited(BASE, (_SERVERS, _SERVERS + lines))


def test_servers_are_kept_as_written_and_joined() -> None:
    text = edited(BASE, (_SERVERS, _SERVERS + "        - kafka-2:9092\n        - '[::1]:9092'\n"))
    cluster = _cluster(text)
    assert (cluster.name, cluster.bootstrap_servers) == ("kafka", "${{env.BROKERS}},kafka-2:9092,[::1]:9092")
    assert (cluster.security_protocol, cluster.sasl_mechanism) == ("PLAINTEXT", "")


@pytest.mark.parametrize("server", ["kafka", "kafka://a:1", "a:b", "a:1/b"])
def test_what_is_no_address_of_a_broker_is_refused(server: str) -> None:
    assert "Write host:port." in refused_at(edited(BASE, ("${{env.BROKERS}}", server)), f"- {server}")


def test_without_servers_the_address_of_the_tcp_client_counts() -> None:
    text = edited(BASE, ("    options:\n" + _SERVERS, ""))
    assert "Nothing says where the brokers" in refused(text)[0]
    cluster = _cluster(text + "    options:\n      host: kafka.example\n      port: 9092\n")
    assert cluster.bootstrap_servers == "kafka.example:9092"


@pytest.mark.parametrize(
    ("mechanism", "expected"), [("plain", "PLAIN"), ("scram-sha-256", "SCRAM-SHA-256"), ("scram-sha-512", "SCRAM-SHA-512")]
)
def test_sasl_of_the_first_dialect_is_imported(mechanism: str, expected: str) -> None:
    lines = f"      sasl:\n        mechanism: {mechanism}\n        username: me\n        password: ${{{{env.PASS}}}}\n"
    cluster = _cluster(_with_sasl(lines))
    assert (cluster.security_protocol, cluster.sasl_mechanism) == ("SASL_PLAINTEXT", expected)
    assert (cluster.sasl_username, cluster.sasl_password) == ("me", "${{env.PASS}}")


@pytest.mark.parametrize("kind", ["inline", "identity"])
def test_sasl_of_the_second_dialect_takes_the_values_of_its_guard(kind: str) -> None:
    lines = (
        "      authorization:\n        kafka_login:\n          credentials:\n            mechanism: scram-sha-512\n"
        "            username: '{identity}'\n            password: '{credentials}'\n"
    )
    plan, report = planned(_with_sasl(lines) + edited(_INLINE, ("inline", kind)))
    (cluster,) = plan.clusters
    assert (cluster.sasl_username, cluster.sasl_password) == ("${{env.USER_NAME}}", "${{env.PASS}}")
    assert cluster.sasl_mechanism == "SCRAM-SHA-512"
    assert plan.guards == ()
    assert set(report.variables) == {"BROKERS", "USER_NAME", "PASS"}


def test_passing_each_clients_credentials_on_to_kafka_is_refused() -> None:
    credentials = "{mechanism: plain, username: a, password: '{credentials}'}"
    lines = f"      authorization:\n        web:\n          credentials: {credentials}\n"
    guard = "guards:\n  web:\n    type: jwt\n    options: {issuer: 'https://a.example', audience: b}\n"
    assert "own credentials would be passed on" in refused(_with_sasl(lines) + guard)[0]


def test_mechanisms_without_support_are_refused_with_a_way_out() -> None:
    lines = "      sasl: {mechanism: scram-sha-1, username: a, password: b}\n"
    assert "Use plain, scram-sha-256 or scram-sha-512." in refused_at(_with_sasl(lines), "scram-sha-1")
    token = (
        "      authorization:\n        kafka_login:\n          credentials: {mechanism: oauthbearer, token: '{credentials}'}\n"
    )
    assert "token endpoint" in refused(_with_sasl(token) + _INLINE)[0]


def test_a_password_that_is_written_out_is_a_warning_and_is_never_shown() -> None:
    plan, report = planned(_with_sasl("      sasl: {mechanism: plain, username: me, password: hunter2}\n"))
    assert "written out in the file" in said(report, Verdict.WARNING)
    assert "hunter2" not in "\n".join([*report.lines(), repr(plan)])


def _with_tls(options: str, more: str = "") -> str:
    text = edited(BASE, ("    exit: broker\n", "    exit: secure\n"))
    return f"{text}  secure:\n    type: tls\n    kind: client\n{options}    exit: broker\n{more}"


def test_tls_without_options_trusts_the_systems_authorities() -> None:
    cluster = _cluster(_with_tls(""))
    assert (cluster.security_protocol, cluster.ssl_ca) == ("SSL", "")


def test_the_built_in_tls_client_is_tls() -> None:
    text = edited(BASE, ("    exit: broker\n", "    exit: sys:tls_client\n"))
    assert _cluster(text).security_protocol == "SSL"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("keys: [me]", "private key"),
        ("version: TLSv1.3", "OpenSSL"),
        ("trustcacerts: false", "No certificate is trusted"),
        ("trust: [ca]", "needs a vault"),
        ("trust: [ca]\n      trustcacerts: true", "one or the other"),
    ],
)
def test_trust_that_cannot_be_kept_is_refused(options: str, says: str) -> None:
    assert says in refused(_with_tls(f"    options:\n      {options}\n"))[0]


def test_a_trust_store_that_cannot_be_read_is_refused_with_a_way_out(tmp_path: Path) -> None:
    options = "    vault: certificates\n    options:\n      trust: [ca]\n"
    vault = "vaults:\n  certificates:\n    type: filesystem\n    options:\n"
    vault += "      trust: {store: none.p12, password: ${{env.PASS}}}\n"
    (error,) = refused(_with_tls(options, vault), folder=tmp_path, environ={"BROKERS": "a:1", "PASS": "x"})
    assert "none.p12 cannot be read" in error
    assert "ssl_ca" in error
    (error,) = refused(_with_tls(options, vault), folder=tmp_path)
    assert "--env" in error
    (error,) = refused(_with_tls(options, vault), environ={"PASS": "x"})
    assert "no folder" in error


def test_server_names_are_compared_with_the_servers() -> None:
    text = _with_tls("    options:\n      sni: [kafka.example]\n")
    assert "verified for other.example, not for kafka.example" in refused(text, environ={"BROKERS": "other.example:9093"})[0]
    _, report = planned(text, environ={"BROKERS": "kafka.example:9093"})
    assert "own host names" in said(report, Verdict.WARNING)


def test_a_choice_between_brokers_is_refused() -> None:
    text = BASE + "    routes:\n      - when: [{cidr: 10.0.0.0/8}]\n"
    assert "limit which brokers are connected to" in refused(text)[0]


def test_topics_of_a_cache_server_are_imported() -> None:
    new = (
        _CACHE
        + "        - orders\n      topics:\n        - name: items\n          defaultOffset: live\n        - name: plain\n"
    )
    plan, report = planned(edited(BASE, (_CACHE, new)))
    common = {"source": "shop", "cluster": "shop:kafka", "place": plan.topics[0].place}
    both, one = frozenset({"bootstrap", "default_offset"}), frozenset({"bootstrap"})
    assert plan.topics == (
        TopicPlan(name="items", bootstrap=True, default_offset="live", said=both, **common),
        TopicPlan(name="orders", bootstrap=True, said=one, **common),
    )
    assert "'plain' is only named" in said(report, Verdict.IGNORED)


def test_a_default_offset_of_a_pattern_has_no_effect_and_deltas_are_never_used() -> None:
    new = _CACHE + "      topics:\n        - name: items-{x}\n          defaultOffset: live\n          deltaType: json_patch\n"
    _, report = planned(edited(BASE, (_CACHE, new)))
    assert "defaultOffset has no effect" in said(report, Verdict.IGNORED)
    assert "deltaType" in said(report, Verdict.IGNORED)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("value: {model: json, catalog: {}}", "The value model of a topic is not supported"),
        ("key: {model: string}", "The key model"),
        ("key: string", "The key model"),
        ("transforms: []", "Transforms"),
    ],
)
def test_models_and_transforms_of_topics_are_refused(line: str, says: str) -> None:
    new = _CACHE + f"      topics:\n        - name: items\n          {line}\n"
    assert says in refused_at(edited(BASE, (_CACHE, new)), line)
    client = "    type: kafka\n    kind: cache_client\n"
    if "transforms" not in line:
        text = edited(BASE, (client, f"{client}    options:\n      topics:\n        - name: items\n          {line}\n"))
        assert says in refused_at(text, line)


def test_a_bare_value_model_is_not_enforced_by_the_reference_which_is_said() -> None:
    _, report = planned(edited(BASE, (_CACHE, _CACHE + "      topics:\n        - name: items\n          value: json\n")))
    assert "does not enforce it" in said(report, Verdict.WARNING)


def _client_routes(routes: str) -> str:
    return edited(BASE, ("    kind: cache_client\n    exit: cache_server\n", f"    kind: cache_client\n    routes:\n{routes}"))


def test_a_topic_that_kafka_bindings_let_through_is_imported() -> None:
    planned(_client_routes("      - when: [{topic: orders}, {topic: 'it*'}]\n        exit: cache_server\n"))


def test_a_topic_that_kafka_bindings_do_not_let_through_is_refused() -> None:
    errors = refused(_client_routes("      - when: [{topic: orders}]\n        exit: cache_server\n"))
    assert "'cache_client' lets the topic 'items' through nowhere" in errors[0]


def test_a_topic_from_the_request_cannot_be_checked_against_a_list() -> None:
    text = _client_routes("      - when: [{topic: 'items*'}]\n        exit: cache_server\n")
    text = text.replace("          topic: items\n          key", "          topic: items-${params.id}\n          key")
    assert "cannot be checked for 'items-${params.id}'" in refused(text)[0]


def test_guards_of_kafka_bindings_become_guards_of_the_routes() -> None:
    text = _client_routes("      - guarded: {jwt: [kafka]}\n        exit: cache_server\n")
    text += "guards:\n  jwt:\n    type: jwt\n    options: {issuer: 'https://a.example', audience: b}\n"
    plan, _ = planned(text)
    assert [route.guarded for route in plan.gateways[0].entries[0].routes] == [{"jwt": ("kafka",)}] * 2


def test_a_kafka_route_that_depends_on_who_asks_is_refused() -> None:
    text = _client_routes("      - guarded: {jwt: [kafka]}\n        exit: cache_server\n      - exit: kafka\n")
    text += "guards:\n  jwt:\n    type: jwt\n    options: {issuer: 'https://a.example', audience: b}\n"
    assert "depends on who asks" in refused(text)[0]


def test_topics_that_lead_to_two_clients_are_on_two_clusters() -> None:
    text = _client_routes("      - when: [{topic: items}]\n        exit: cache_server\n      - exit: second\n")
    text = text.replace("          topic: items\n          filters", "          topic: orders\n          filters")
    text += "  second:\n    type: kafka\n    kind: client\n    options: {servers: ['b:9092']}\n    exit: broker\n"
    plan, _ = planned(text)
    (gateway,) = plan.gateways
    assert [route.cluster for route in gateway.entries[0].routes] == ["shop:kafka", "shop:second"]
    assert gateway.cluster == "shop:kafka"
    assert [cluster.name for cluster in plan.clusters] == ["kafka", "second"]


def test_a_condition_on_a_consumer_group_is_refused() -> None:
    assert "groupId" in refused(_client_routes("      - when: [{groupId: x}]\n        exit: cache_server\n"))[0]


def test_a_kafka_client_has_to_lead_to_a_network() -> None:
    assert "is no tcp or tls client" in refused(edited(BASE, ("    exit: broker\n", "    exit: sys:http_client\n")))[0]


@pytest.mark.parametrize(
    ("routes", "says"),
    [
        ("    routes:\n      - when: [{authority: a.example}]\n        exit: broker\n", "on the way to the brokers"),
        ("    exit: sys:http_client\n", "does not lead to a tcp client"),
    ],
)
def test_a_tls_client_has_to_lead_to_one_tcp_client(routes: str, says: str) -> None:
    text = _with_tls("").replace("    kind: client\n    exit: broker\n", f"    kind: client\n{routes}")
    assert says in refused(text)[0]


def test_both_dialects_of_credentials_at_once_are_refused() -> None:
    lines = (
        "      sasl: {mechanism: plain, username: a, password: '${{env.PASS}}'}\n      authorization:\n        kafka_login:\n"
    )
    lines += "          credentials: {mechanism: plain, username: a, password: '{credentials}'}\n"
    assert "Both sasl and authorization" in refused(_with_sasl(lines) + _INLINE)[0]


def test_credentials_of_a_guard_that_lacks_them_or_is_not_there_are_refused() -> None:
    lines = "      authorization:\n        kafka_login:\n"
    lines += "          credentials: {mechanism: plain, username: '{identity}', password: '{credentials}'}\n"
    assert "There is no guard 'kafka_login'" in refused(_with_sasl(lines))[0]
    without = edited(_INLINE, ("      identity: ${{env.USER_NAME}}\n", ""))
    assert "The guard has no identity" in refused(_with_sasl(lines) + without)[0]


def test_a_vault_that_is_missing_or_of_another_kind_is_refused() -> None:
    text = _with_tls("    vault: certificates\n    options:\n      trust: [ca]\n")
    assert "There is no vault 'certificates'" in refused(text)[0]
    assert "no trust store that can be read" in refused(text + "vaults:\n  certificates: {type: aws}\n")[0]


def test_a_mapping_that_leads_to_no_kafka_client_is_refused() -> None:
    for old in ("    exit: kafka\n", "        exit: cache_client\n        with:\n          capability: fetch"):
        text = edited(BASE, (old, old.replace(old.split()[1], "sys:tcp_client")))
        assert "does not lead to a kafka client" in refused(text)[0]
