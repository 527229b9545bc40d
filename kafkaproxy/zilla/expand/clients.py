"""The Kafka side: cache bindings for all topics of a specification, a kafka client, and tls and tcp clients behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.zilla.expand.composite import Address, Composite, addresses
from kafkaproxy.zilla.expand.operations import stored_otherwise
from kafkaproxy.zilla.expand.specification import ExpandError, Specification
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row, mapping, row, text

__all__ = ["client_nodes", "topic_checks"]

_SECURE: Final = "kafka-secure"
_MECHANISMS: Final = {
    "plain": "plain",
    "userPassword": "plain",
    "scramSha256": "scram-sha-256",
    "scramSha512": "scram-sha-512",
}
_NONE: Final = ("X509",)
"""Security schemes that need no SASL."""


def client_nodes(composite: Composite, specification: Specification, node: Branch, name: str) -> Iterator[tuple[str, Branch]]:
    """Return the bindings of a client, the one that a proxy leads to first. ``node``: what stands under ``specs``."""
    servers = [each for each in addresses(composite, specification, node) if each.protocol.startswith("kafka")]
    if not servers:
        message = gettext("Nothing says where the Kafka of %(specification)r is.") % {"specification": specification.label}
        raise ExpandError(composite.at(composite.name.line), message, gettext("Add servers, such as kafka://HOST:9092."))
    if len({each.protocol for each in servers}) > 1:
        message = gettext("Some servers of %(specification)r are secure, and some are not.") % {
            "specification": specification.label
        }
        raise ExpandError(composite.at(servers[1].line), message, gettext("Name those of one kind under servers."))
    secure = servers[0].protocol == _SECURE
    topics = _topics(specification)
    kafka = composite.options.branch("kafka")
    said = kafka.get("topics") if kafka is not None else None
    options = {"bootstrap": row(topics, composite.name.line), "topics": said}
    yield f"{name}.cache_client", _node(composite, "kafka", "cache_client", None, f"{name}.cache_server")
    yield f"{name}.cache_server", _node(composite, "kafka", "cache_server", options, name)
    yield name, _kafka(composite, specification, servers, f"{name}.{'tls' if secure else 'tcp'}")
    if secure:
        tls = _node(composite, "tls", "client", composite.options.get("tls"), f"{name}.tcp", composite.node.get("vault"))
        yield f"{name}.tls", tls
    yield f"{name}.tcp", _node(composite, "tcp", "client", composite.options.get("tcp"), None)


def _node(
    composite: Composite,
    type_: str,
    kind: str,
    options: Node | dict[str, Node | None] | None,
    exit_: str | None,
    vault: Node | None = None,
) -> Branch:
    line = composite.name.line
    if isinstance(options, dict):
        options = mapping(line, dict(options))
    return mapping(line, {"type": type_, "kind": kind, "vault": vault, "options": options, "exit": exit_})


def _topics(specification: Specification) -> list[Leaf]:
    """Return the topics that are kept from the start: every channel without a parameter."""
    found = [leaf for leaf, _ in _channels(specification)]
    return list({leaf.text: leaf for leaf in found if "{" not in leaf.text}.values())


def _channels(specification: Specification) -> Iterator[tuple[Leaf, Branch]]:
    """Return the channels that have an address, with it; one without is known only when a request says it."""
    for _, channel in specification.branches(specification.root, "channels"):
        if isinstance(address := channel.get("address"), Leaf) and address.text:
            yield address, channel


def _kafka(composite: Composite, specification: Specification, servers: list[Address], exit_: str) -> Branch:
    kafka = composite.options.branch("kafka")
    line = composite.name.line
    hosts = {each.host: text(each.host, each.line) for each in servers}
    options: dict[str, Node | None] = {"servers": row(hosts.values(), line)}
    if (sasl := kafka.get("sasl") if kafka is not None else None) is not None:
        options["sasl"] = sasl
    else:
        options["authorization"] = _authorization(composite, specification, servers)
    found = _node(composite, "kafka", "client", options, exit_)
    telemetry = composite.node.get("telemetry")
    return found if telemetry is None else Branch((*found.pairs, (Leaf("telemetry", telemetry.line), telemetry)), line)


def _authorization(composite: Composite, specification: Specification, servers: list[Address]) -> Branch | None:
    """Return the credentials of a guard, where a server of the document wants some."""
    wanted = [each for server in servers for each in _schemes(specification, server)]
    if not wanted:
        return None
    name, mechanism = wanted[0]
    guard = specification.security.get(name.text) if specification.security is not None else None
    if not isinstance(guard, Leaf):
        message = gettext("The Kafka of %(specification)r wants credentials (%(name)s), and none are given.") % {
            "specification": specification.label,
            "name": name.text,
        }
        advice = gettext("Add options.kafka.sasl, or a guard for them: security: {%(name)s: GUARD}.") % {"name": name.text}
        raise ExpandError(composite.at(composite.name.line), message, advice)
    credentials = mapping(guard.line, {"mechanism": mechanism, "username": "{identity}", "password": "{credentials}"})
    own = guard.text.removeprefix(f"{composite.document.name}:")
    return mapping(guard.line, {own: mapping(guard.line, {"credentials": credentials})})


def _schemes(specification: Specification, server: Address) -> Iterator[tuple[Leaf, str]]:
    for item, scheme in specification.rows(server.declared, "security"):
        type_ = scheme.text("type")
        ref = item.get("$ref")
        name = Leaf(ref.text.rpartition("/")[2], ref.line) if isinstance(ref, Leaf) else Leaf(type_, item.line)
        if type_ in _NONE:
            continue
        if type_ not in _MECHANISMS:
            message = gettext("The security scheme %(name)r of the Kafka server has the type %(type)r.") % {
                "name": name.text,
                "type": type_,
            }
            raise ExpandError(
                specification.at(name.line),
                message,
                gettext("Use one of %(types)s.") % {"types": ", ".join(_MECHANISMS)},
            )
        yield name, _MECHANISMS[type_]


def topic_checks(specification: Specification) -> Iterator[tuple[Leaf, int, bool]]:
    """Return the topics whose records the reference checks, where that is said, and whether it also converts them."""
    default = specification.root.text("defaultContentType")
    for topic, channel in _channels(specification):
        for _, message in specification.branches(channel, "messages"):
            converted = stored_otherwise(specification, message, default)
            if "payload" in message and not _is_null(specification, message):
                yield topic, converted or message.line_of("payload"), converted is not None
            kafka = specification.branch(specification.branch(message, "bindings"), "kafka")
            if kafka is not None and "key" in kafka:
                yield topic, kafka.line_of("key"), False


def _is_null(specification: Specification, message: Branch) -> bool:
    """Return True if a message has no value: nothing is checked then."""
    payload = message.get("payload")
    schema = specification.follow(payload) if not isinstance(payload, Row) else None
    return isinstance(schema, Branch) and schema.text("type") == "null"
