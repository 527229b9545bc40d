"""From the specs of clusters and topics to what the worker takes: librdkafka's options, and the topics to follow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from kafkaproxy.core.expressions import Template
from kafkaproxy.routing.table import Capability, Gateway, Route
from kafkaproxy.specs.types import ClusterSpec, Resolve, TopicSpec
from kafkaproxy.worker.types import EMBEDDED, ClusterConfig, Role, TopicSettings

__all__ = ["compile_clusters", "compile_topics"]

Option = str | int | float | bool
Topics = Mapping[tuple[str, str], TopicSettings]

_ROLES: Final = {Capability.FETCH: Role.FETCH, Capability.STREAM: Role.STREAM}


def compile_topics(specs: Iterable[TopicSpec], gateways: Iterable[Gateway], resolve: Resolve) -> Topics:
    """Return the topics with a spec, and those that enabled routes read under a fixed name, by cluster and name."""
    tuned = {(spec.cluster, resolve(spec.name)): spec for spec in specs}
    roles: defaultdict[tuple[str, str], set[Role]] = defaultdict(set)
    for route in (route for gateway in gateways for entry in gateway.entries for route in entry.routes):
        for template, role in _read_topics(route):
            if template.is_literal:
                roles[route.cluster, template.text].add(role)
    return MappingProxyType({key: _settings(tuned.get(key), roles[key]) for key in {**tuned, **roles}})


def compile_clusters(
    specs: Iterable[ClusterSpec], gateways: Iterable[Gateway], topics: Topics, resolve: Resolve
) -> Mapping[str, ClusterConfig]:
    """Return the clusters that an enabled gateway or route uses, or that have a topic to bootstrap."""
    headers: defaultdict[str, set[str]] = defaultdict(set)
    for gateway in gateways:
        routes = (route for entry in gateway.entries for route in entry.routes)
        for name in {gateway.cluster, *(route.cluster for route in routes)}:
            headers[name].add(gateway.correlation_header)
    used = {*headers, *(cluster for (cluster, _name), each in topics.items() if each.bootstrap)}
    return MappingProxyType(
        {
            spec.name: _compile_cluster(spec, frozenset(headers[spec.name]), topics, resolve)
            for spec in specs
            if spec.name in used
        }
    )


def client_options(spec: ClusterSpec, resolve: Resolve) -> dict[str, Option]:
    """Return librdkafka's options, secrets resolved; the cluster's own JSON options win.

    Raise ``ValueError`` (``MissingVariable`` among them) for what cannot be used.
    """
    servers = ",".join(part.strip() for part in resolve(spec.bootstrap_servers).split(",") if part.strip())
    if not servers:
        raise ValueError("It has no bootstrap servers: write host:port.")
    given = {name: resolve(each) if isinstance(each, str) else each for name, each in spec.options.items()}
    if servers == EMBEDDED:
        return {"bootstrap.servers": EMBEDDED, **given}
    return {
        "bootstrap.servers": servers,
        "security.protocol": spec.security_protocol,
        **(dict(_sasl_options(spec, resolve)) if spec.security_protocol.startswith("SASL") else {}),
        **(dict(_tls_options(spec, resolve)) if spec.security_protocol.endswith("SSL") else {}),
        **given,
    }


def _read_topics(route: Route) -> Iterator[tuple[Template, Role]]:
    if route.capability in _ROLES:
        yield route.topic, _ROLES[route.capability]
    if route.reply_to is not None:
        yield route.reply_to, Role.REPLY


def _settings(spec: TopicSpec | None, roles: Iterable[Role]) -> TopicSettings:
    if spec is None:
        return TopicSettings(roles=frozenset(roles))
    policy = spec.cleanup_policy
    return TopicSettings(
        roles=frozenset(roles),
        bootstrap=spec.bootstrap,
        live=spec.default_offset == "live",
        cleanup_policy=None if policy == "broker" else policy,
        store_bytes=spec.store_bytes,
    )


def _compile_cluster(spec: ClusterSpec, headers: frozenset[str], topics: Topics, resolve: Resolve) -> ClusterConfig:
    """Compile one cluster. An error becomes its ``error``, so that the other clusters stay in service."""
    try:
        client = client_options(spec, resolve)
    except (ValueError, AttributeError) as error:
        return ClusterConfig(name=spec.name, error=str(error))
    own = {name: each for (cluster, name), each in topics.items() if cluster == spec.name}
    if not headers:
        return ClusterConfig(name=spec.name, client=MappingProxyType(client), topics=MappingProxyType(own))
    return ClusterConfig(
        name=spec.name,
        client=MappingProxyType(client),
        correlation_headers=headers,
        topics=MappingProxyType(own),
    )


def _sasl_options(spec: ClusterSpec, resolve: Resolve) -> Iterator[tuple[str, Option]]:
    yield "sasl.mechanism", spec.sasl_mechanism
    bearer = spec.sasl_mechanism == "OAUTHBEARER"
    if bearer:
        yield "sasl.oauthbearer.method", "oidc"
    names = ("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret") if bearer else ("sasl.username", "sasl.password")
    for name, value in zip(names, (spec.sasl_username, spec.sasl_password), strict=True):
        if value:
            yield name, resolve(value)


def _tls_options(spec: ClusterSpec, resolve: Resolve) -> Iterator[tuple[str, Option]]:
    for name, value in (("ca", spec.ssl_ca), ("certificate", spec.ssl_certificate), ("key", spec.ssl_key)):
        if value:
            text = resolve(value)
            yield (f"ssl.{name}.pem" if "-----BEGIN" in text else f"ssl.{name}.location"), text
    if spec.ssl_key_password:
        yield "ssl.key.password", resolve(spec.ssl_key_password)
    if not spec.ssl_verify_hostname:
        yield "ssl.endpoint.identification.algorithm", "none"
