"""Clusters of a plan as Zilla's kafka bindings: cache client, cache server, client, and what connects it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kafkaproxy.zilla.names import Names
from kafkaproxy.zilla.plan import ClusterPlan, Plan, TopicPlan

__all__ = ["KafkaSide", "kafka_side", "servers_of"]

Tree = dict[str, Any]


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
