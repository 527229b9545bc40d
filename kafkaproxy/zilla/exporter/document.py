"""A plan as the tree of a zilla.yaml: one namespace, one http server, and the kafka bindings of its clusters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from kafkaproxy.specs.types import AccessControlSpec
from kafkaproxy.zilla.exporter.http_server import HttpSide
from kafkaproxy.zilla.names import Names
from kafkaproxy.zilla.plan import ClusterPlan, GatewayPlan, Plan, TopicPlan
from kafkaproxy.zilla.report import ExportReport

__all__ = ["KafkaSide", "document_of", "kafka_side", "servers_of"]

_PORT: Final = 7114
"""The port of the reference's examples. An import does not look at it."""

Tree = dict[str, Any]


def document_of(plan: Plan, dialect: int, report: ExportReport) -> Tree:
    """Return the document of the plan's one gateway."""
    gateway = plan.gateways[0]
    names = Names()
    side = kafka_side(plan, names, dialect)
    tcp, http = names.take("tcp_server"), names.take("http_server")
    behind = HttpSide(gateway, side.exits, names, report)
    routes = behind.routes()
    server: Tree = {"type": "http", "kind": "server", "options": _http_options(gateway), "routes": routes}
    guards = {guard.name: {"type": guard.kind, "options": dict(guard.options)} for guard in plan.guards}
    sections = {"guards": guards | side.guards, "vaults": side.vaults}
    bindings = {
        tcp: {"type": "tcp", "kind": "server", "options": {"host": "0.0.0.0", "port": _PORT}, "exit": http},  # noqa: S104
        http: server,
        **behind.bindings,
        **side.bindings,
    }
    return {"name": gateway.name, **{name: each for name, each in sections.items() if each}, "bindings": bindings}


def _http_options(gateway: GatewayPlan) -> Tree:
    options: Tree = {"access-control": _access_control(gateway.access_control)}
    if gateway.guard is not None:
        places = {
            "cookies": dict(gateway.credentials_cookies),
            "headers": dict(gateway.credentials_headers),
            "query": dict(gateway.credentials_query),
        }
        credentials = {name: each for name, each in places.items() if each}
        options["authorization"] = {gateway.guard: {"credentials": credentials}}
    return options


def _access_control(plan: AccessControlSpec) -> Tree:
    lists = {"origins": plan.allow_origins, "methods": plan.allow_methods, "headers": plan.allow_headers}
    allow: Tree = {name: list(each) for name, each in lists.items() if each is not None}
    if plan.allow_credentials:
        allow["credentials"] = True
    section: Tree = {"policy": plan.policy}
    if allow:
        section["allow"] = allow
    if plan.max_age is not None:
        section["max-age"] = plan.max_age
    if plan.expose_headers is not None:
        section["expose"] = {"headers": list(plan.expose_headers)}
    return section


@dataclass(slots=True)
class KafkaSide:
    """The parts of a document that lead to Kafka. ``exits``: by cluster, the binding that a mapping leads to."""

    bindings: Tree = field(default_factory=dict)
    guards: Tree = field(default_factory=dict)
    vaults: Tree = field(default_factory=dict)
    exits: dict[str, str] = field(default_factory=dict)


def kafka_side(plan: Plan, names: Names, dialect: int) -> KafkaSide:
    """Return the bindings of all clusters. A kafka client has its cluster's name, so that an import finds it again."""
    side = KafkaSide()
    guards = Names()
    for guard in plan.guards:
        guards.take(guard.name)
    for cluster in plan.clusters:
        names.take(cluster.name)
    for cluster in plan.clusters:
        topics = [topic for topic in plan.topics if topic.cluster == cluster.origin]
        _add(cluster, topics, side, names, guards, dialect)
    return side


def servers_of(text: str) -> list[str]:
    """Return the bootstrap servers one by one."""
    return [each for each in (part.strip() for part in text.split(",")) if each]


def _add(plan: ClusterPlan, topics: Iterable[TopicPlan], side: KafkaSide, names: Names, guards: Names, dialect: int) -> None:
    cache_client, cache_server = names.take(f"{plan.name}_cache_client"), names.take(f"{plan.name}_cache_server")
    broker = names.take(f"{plan.name}_tcp_client")
    side.exits[plan.origin] = cache_client
    side.bindings[cache_client] = {"type": "kafka", "kind": "cache_client", "exit": cache_server}
    options = dict(_topic_options(topics))
    cache: Tree = {"type": "kafka", "kind": "cache_server", **({"options": options} if options else {})}
    side.bindings[cache_server] = {**cache, "exit": plan.name}
    client: Tree = {"servers": servers_of(plan.bootstrap_servers), **_sasl(plan, side, guards, dialect)}
    tls = names.take(f"{plan.name}_tls_client") if plan.security_protocol.endswith("SSL") else ""
    side.bindings[plan.name] = {"type": "kafka", "kind": "client", "options": client, "exit": tls or broker}
    if tls:
        side.bindings[tls] = {**_tls(plan, side), "exit": broker}
    side.bindings[broker] = {"type": "tcp", "kind": "client"}


def _topic_options(topics: Iterable[TopicPlan]) -> Iterator[tuple[str, Any]]:
    said = list(topics)
    if bootstrap := [topic.name for topic in said if topic.bootstrap]:
        yield "bootstrap", bootstrap
    if offsets := [topic for topic in said if "default_offset" in topic.said]:
        yield "topics", [{"name": topic.name, "defaultOffset": topic.default_offset} for topic in offsets]


def _sasl(plan: ClusterPlan, side: KafkaSide, guards: Names, dialect: int) -> Tree:
    if not plan.sasl_mechanism:
        return {}
    mechanism = plan.sasl_mechanism.lower()
    if dialect == 1:
        return {"sasl": {"mechanism": mechanism, "username": plan.sasl_username, "password": plan.sasl_password}}
    guard = guards.take(f"{plan.name}_sasl")
    options = {"identity": plan.sasl_username, "credentials": plan.sasl_password}
    side.guards[guard] = {"type": "inline", "options": options}
    credentials = {"mechanism": mechanism, "username": "{identity}", "password": "{credentials}"}
    return {"authorization": {guard: {"credentials": credentials}}}


def _tls(plan: ClusterPlan, side: KafkaSide) -> Tree:
    """Return a tls client; one that trusts no other CAs than the cluster's wants a store that the operator makes."""
    if not plan.ssl_ca:
        return {"type": "tls", "kind": "client"}
    store = {"store": f"{plan.name}.p12", "type": "pkcs12", "password": "${{env.TRUST_STORE_PASSWORD}}"}
    side.vaults[plan.name] = {"type": "filesystem", "options": {"trust": store}}
    return {"type": "tls", "kind": "client", "vault": plan.name, "options": {"trust": ["ca"]}}
