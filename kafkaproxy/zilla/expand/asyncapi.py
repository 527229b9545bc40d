"""Operations of an AsyncAPI document: what clients of its http servers see, and what its Kafka channels do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.zilla.bindings.shape import suggest
from kafkaproxy.zilla.expand.operations import (
    ASYNCAPI,
    EXTENSIONS,
    Alternative,
    Requirement,
    Source,
    Target,
    check_keys,
    is_list,
    tag_names,
)
from kafkaproxy.zilla.expand.specification import ExpandError, Specification, reported
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, text

__all__ = ["sources", "target", "target_names"]

_HEADER: Final = re.compile(r"\$message\.header#/(.+)")
_WITHOUT_BODY: Final = ("GET", "HEAD")
_ELSEWHERE: Final = ("security", "bindings")
"""What a trait could change without a trace at the operation."""


def sources(specification: Specification, report: ImportReport) -> Iterator[Source]:
    """Return the operations that clients see, in the order of the document; what is wrong with one is refused."""
    for key, node in _operations(specification):
        with reported(report):
            source = _source(specification, key, node, report)
            if source is not None:
                yield source


def _operations(specification: Specification) -> Iterator[tuple[Leaf, Branch]]:
    yield from specification.branches(specification.root, "operations")


def _source(specification: Specification, key: Leaf, node: Branch, report: ImportReport) -> Source | None:
    bindings = specification.branch(node, "bindings")
    http = specification.branch(bindings, "http")
    stream = "x-zilla-sse" in bindings if bindings is not None else False
    if http is None and not stream:
        if specification.branch(bindings, "mqtt") is None:
            message = gettext("The operation %(key)r is served neither by HTTP nor as a stream: it has no such binding.") % {
                "key": key.text
            }
            report.ignore(specification.at(key.line), message)
        return None
    _check(specification, node, bindings)
    is_stream = http is None  # the reference's server looks for http first
    channel = _channel(specification, node)
    _check_servers(specification, channel, "http")
    messages = _messages(specification, node, channel)
    method = text("GET", key.line) if http is None else _method(specification, http)
    sent = [] if method.text in _WITHOUT_BODY and not is_stream else messages
    return Source(
        specification=specification,
        name=key.text,
        line=key.line,
        method=method,
        path=_address(specification, channel),
        is_stream=is_stream,
        tags=tag_names(specification, node),
        security=tuple(_security(specification, node)),
        merges=any(is_list(specification, each) for each in _channel_messages(specification, channel)),
        answers=tuple(_answers(specification, messages)),
        extension=_extension(specification, bindings, is_stream=is_stream),
        checks=tuple(_checks(specification, channel, sent)),
    )


def _check(specification: Specification, node: Branch, bindings: Branch | None) -> None:
    check_keys(specification, node, ASYNCAPI)
    for key, _ in bindings.pairs if bindings is not None else ():
        if key.text.startswith("x-zilla") and key.text not in EXTENSIONS:
            raise ExpandError(
                specification.at(key.line),
                gettext("There is no binding %(key)r.") % {"key": key.text},
                suggest(key.text, EXTENSIONS),
            )
    for _, trait in specification.rows(node, "traits"):
        inner = specification.branch(trait, "bindings")
        kafka_only = inner is None or all(key.text == "kafka" for key, _ in inner.pairs)
        for name in _ELSEWHERE:
            if name in trait and not (name == "bindings" and kafka_only):
                message = gettext("A trait of an operation has %(name)s.") % {"name": name}
                raise ExpandError(specification.at(trait.line_of(name)), message, gettext("Write it at the operation itself."))


def _method(specification: Specification, http: Branch) -> Leaf:
    method = http.get("method")
    if not isinstance(method, Leaf):
        raise ExpandError(
            specification.at(http.line), gettext("The http binding has no method."), gettext("Write one, such as GET.")
        )
    if method.text != method.text.upper():
        raise ExpandError(
            specification.at(method.line),
            gettext("%(method)r is not a method.") % {"method": method.text},
            gettext("Write %(method)s.") % {"method": method.text.upper()},
        )
    return method


def _channel(specification: Specification, holder: Branch) -> Branch:
    channel = specification.branch(holder, "channel")
    if channel is None:
        raise ExpandError(
            specification.at(holder.line), gettext("The channel is missing."), gettext("Refer to one: $ref: '#/channels/NAME'.")
        )
    return channel


def _check_servers(specification: Specification, channel: Branch, protocol: str) -> None:
    """Raise for a channel that not every server of the protocol has."""
    if "servers" not in channel:
        return
    listed = {id(server) for _, server in specification.rows(channel, "servers")}
    for key, server in specification.branches(specification.root, "servers"):
        if server.text("protocol").startswith(protocol) and id(server) not in listed:
            message = gettext("The channel is not on the server %(key)r; channels of single servers are not understood.") % {
                "key": key.text
            }
            advice = gettext("Describe that server in a specification of its own, or remove servers from the channel.")
            raise ExpandError(specification.at(channel.line_of("servers")), message, advice)


def _address(specification: Specification, channel: Branch) -> Leaf:
    """Return the address of a channel: a path, or a topic."""
    found = channel.get("address")
    if not isinstance(found, Leaf) or not found.text:
        raise ExpandError(
            specification.at(channel.line), gettext("The channel has no address."), gettext("Write its path, or its topic.")
        )
    return found


def _channel_messages(specification: Specification, channel: Branch) -> list[Branch]:
    return [message for _, message in specification.branches(channel, "messages")]


def _messages(specification: Specification, node: Branch, channel: Branch) -> list[Branch]:
    """Return the messages of an operation: all of its channel where it does not say."""
    if "messages" not in node:
        found = _channel_messages(specification, channel)
    else:
        found = [message for _, message in specification.rows(node, "messages")]
    for message in found:
        for _, trait in specification.rows(message, "traits"):
            if "correlationId" in trait:
                text_of = gettext("A trait of a message has a correlationId.")
                raise ExpandError(
                    specification.at(trait.line_of("correlationId")), text_of, gettext("Write it at the message itself.")
                )
    return found


def _security(specification: Specification, node: Branch) -> Iterator[Alternative]:
    """Return the one alternative that there is: the reference wants every scheme of the list."""
    found = []
    for item, scheme in specification.rows(node, "security"):
        ref = item.get("$ref")
        name = Leaf(ref.text.rpartition("/")[2], ref.line) if isinstance(ref, Leaf) else Leaf("", item.line)
        found.append(Requirement(name, tuple(scheme.texts("scopes"))))
    if found:
        yield tuple(found)


def _answers(specification: Specification, messages: list[Branch]) -> Iterator[tuple[Leaf, Leaf]]:
    """Return where an answer is asked for later: the format of the header that carries the correlation id."""
    for message in messages:
        header = _correlation(specification, message)
        headers = specification.branch(message, "headers") if header is not None else None
        schema = specification.branch(specification.branch(headers, "properties"), header.text) if header is not None else None
        found = schema.get("format") if schema is not None else None
        if isinstance(found, Leaf):
            yield text("location", found.line), found
            return


def _correlation(specification: Specification, message: Branch) -> Leaf | None:
    """Return the header that carries the correlation id of a message; one anywhere else is for the applications."""
    correlation = specification.branch(message, "correlationId")
    location = correlation.get("location") if correlation is not None else None
    found = _HEADER.fullmatch(location.text) if isinstance(location, Leaf) else None
    return Leaf(found[1], location.line) if location is not None and found is not None else None


def _extension(specification: Specification, bindings: Branch | None, *, is_stream: bool) -> Branch | None:
    own, other = EXTENSIONS[0], EXTENSIONS[2]
    if is_stream:
        own, other = other, own
    if bindings is not None and other in bindings:
        message = gettext("%(other)s has no effect here.") % {"other": other}
        raise ExpandError(specification.at(bindings.line_of(other)), message, gettext("Write it as %(own)s.") % {"own": own})
    return specification.branch(bindings, own)


def _checks(specification: Specification, channel: Branch, messages: list[Branch]) -> Iterator[int]:
    yield from (message.line_of("payload") for message in messages if "payload" in message)
    for key, parameter in specification.branches(channel, "parameters"):
        if "enum" in parameter or "schema" in parameter:
            yield key.line


def target_names(specification: Specification) -> list[str]:
    """Return the names of the operations."""
    return [key.text for key, _ in _operations(specification)]


def target(specification: Specification, name: str) -> Target | None:
    """Return an operation on Kafka by its name."""
    operations = specification.branch(specification.root, "operations")
    node = specification.branch(operations, name)
    return _target(specification, Leaf(name, operations.line_of(name)), node) if operations and node is not None else None


def _target(specification: Specification, key: Leaf, node: Branch) -> Target:
    check_keys(specification, node, ASYNCAPI)
    action = node.text("action")
    if action not in ("send", "receive"):
        message = gettext("The action of %(key)r is %(action)r.") % {"key": key.text, "action": action}
        raise ExpandError(
            specification.at(key.line), message, gettext("Write send, which produces, or receive, which fetches.")
        )
    channel = _channel(specification, node)
    messages = _messages(specification, node, channel)
    return Target(
        specification=specification,
        name=key.text,
        line=key.line,
        sends=action == "send",
        topic=_topic(specification, channel),
        tags=tag_names(specification, node),
        reply_to=_reply(specification, node),
        correlation=_correlation(specification, messages[0]) if messages else None,
    )


def _topic(specification: Specification, channel: Branch) -> Leaf:
    _check_servers(specification, channel, "kafka")
    topic = _address(specification, channel)
    if "{" in topic.text:
        message = gettext("The topic %(topic)r has a parameter; the reference puts nothing in its place.") % {
            "topic": topic.text
        }
        raise ExpandError(specification.at(topic.line), message, gettext("Write a channel for each topic."))
    kafka = specification.branch(specification.branch(channel, "bindings"), "kafka")
    other = kafka.get("topic") if kafka is not None else None
    if isinstance(other, Leaf) and other.text != topic.text:
        message = gettext("The kafka binding names the topic %(other)r, the channel's address %(topic)r.") % {
            "other": other.text,
            "topic": topic.text,
        }
        raise ExpandError(
            specification.at(other.line), message, gettext("The reference takes the address: make them the same.")
        )
    return topic


def _reply(specification: Specification, node: Branch) -> Leaf | None:
    reply = specification.branch(node, "reply")
    if reply is None:
        return None
    if "address" in reply:
        message = gettext("An address of replies that each message chooses is not understood.")
        raise ExpandError(specification.at(reply.line_of("address")), message, gettext("Name the channel of the replies."))
    return _topic(specification, _channel(specification, reply))
