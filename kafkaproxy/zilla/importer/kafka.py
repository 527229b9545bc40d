"""From a mapping route to Kafka: through cache bindings to the client that names the cluster, and what caches say of topics.

A cache says where to start, what to read at once, and has models, which are refused. A model decides which records are written
and served, and in which format. It is ignored only if no imported route uses the topic, or every record fits it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from django.utils.translation import gettext as _

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.names import is_topic_name
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.zilla.bindings.graph import BUILT_INS, Binding, Exit
from kafkaproxy.zilla.importer.context import Cache, ImportContext
from kafkaproxy.zilla.importer.kafka_client import cluster_of
from kafkaproxy.zilla.importer.security import guarded, merge_guards
from kafkaproxy.zilla.plan import ClusterPlan, TopicPlan
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node

__all__ = ["FRAGMENT_SERVERS", "Destination", "clusters_behind", "destination", "read_topics"]

FRAGMENT_SERVERS: Final = "${{env.KAFKA_BOOTSTRAP_SERVERS}}"
"""The bootstrap servers of a fragment, which does not name any."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The cluster (its origin) that a topic is on, and the guards on the way there."""

    cluster: str
    guarded: Mapping[str, tuple[str, ...]]


def destination(mapping: Binding, exit_: Exit, topic: str, context: ImportContext) -> Destination | None:
    """Follow a mapping route to its cluster; None where that was refused."""
    target = context.graph.target(mapping, exit_)
    if target is None and exit_.target not in BUILT_INS:
        return Destination(_unknown_cluster(mapping, exit_, context), {})
    guards: Mapping[str, tuple[str, ...]] = {}
    while target is not None and target.type == "kafka":
        chosen = _choose(target, topic, context)
        if chosen is None:
            return None
        guards = merge_guards(guards, guarded(chosen, target, context))
        if target.kind == "client":
            return Destination(_known_cluster(target, chosen, context), guards)
        context.caches.setdefault(target.key, Cache(target, context.source)).topics.add(topic)
        target = context.graph.target(target, chosen)
    context.report.refuse(
        exit_.place, _("%(target)r does not lead to a kafka client.") % {"target": exit_.target}, _("Lead it to one.")
    )
    return None


def _unknown_cluster(mapping: Binding, exit_: Exit, context: ImportContext) -> str:
    """Return the cluster of a fragment, whose Kafka side was not given."""
    origin = f"{mapping.namespace}:{exit_.target}"
    if origin not in context.clusters:
        if not context.cluster:
            message = _("The binding %(target)r is not in this fragment, so nothing says which cluster it is.") % {
                "target": exit_.target
            }
            advice = _("The cluster gets the bootstrap servers %(servers)s; or name an existing one with --cluster.") % {
                "servers": FRAGMENT_SERVERS
            }
            context.report.warn(exit_.place, message, advice)
        context.clusters[origin] = ClusterPlan(
            origin=origin,
            source=context.source,
            name=context.cluster or exit_.target.replace(":", "."),
            bootstrap_servers="" if context.cluster else FRAGMENT_SERVERS,
            existing=bool(context.cluster),
            place=exit_.place,
        )
    return origin


def _known_cluster(client: Binding, chosen: Exit, context: ImportContext) -> str:
    origin = f"{client.namespace}:{client.name}"
    if len({exit_.target for exit_ in client.exits}) > 1:
        origin = f"{origin}>{chosen.target}"
    if origin not in context.clusters:
        plan = cluster_of(client, chosen, origin, context)
        context.clusters[origin] = plan
    return origin


def _choose(binding: Binding, topic: str, context: ImportContext) -> Exit | None:
    """Return the route of a kafka binding that a topic takes; None, and refused, where that is none or depends."""
    admitting: list[Exit] = []
    for exit_ in binding.exits:
        admitted = _admits(exit_, topic, binding, context)
        if admitted is None:
            return None
        if admitted:
            admitting.append(exit_)
            if not exit_.guarded:
                break
    if not binding.exits:
        context.report.refuse(
            binding.place,
            _("%(binding)r leads nowhere.") % {"binding": binding.name},
            _("Give it an exit, toward a kafka client."),
        )
        return None
    if not admitting:
        message = _("%(binding)r lets the topic %(topic)r through nowhere: such a route could only fail.") % {
            "binding": binding.name,
            "topic": topic,
        }
        context.report.refuse(binding.place, message, _("Remove the mapping route, or let the topic through."))
        return None
    if len(admitting) > 1:
        message = _("Which route of %(binding)r the topic %(topic)r takes depends on who asks.") % {
            "binding": binding.name,
            "topic": topic,
        }
        advice = _("Guard the http-kafka or sse-kafka routes instead, one for each destination.")
        context.report.refuse(admitting[0].place, message, advice)
        return None
    return admitting[0]


def _admits(exit_: Exit, topic: str, binding: Binding, context: ImportContext) -> bool | None:
    """Return True if a route lets the topic through; None, and refuse it, if that depends on the request."""
    if not exit_.when:
        return True
    for condition in exit_.when:
        if "groupId" in condition:
            place = binding.at(condition.line_of("groupId"))
            context.report.refuse(place, _("A condition on groupId is not understood."), _("No consumer group is used here."))
            return None
        pattern = condition.get("topic")
        if not isinstance(pattern, Leaf) or pattern.text == "*":
            return True
        if not _is_literal(topic):
            message = _("Which topics are let through (%(pattern)r) cannot be checked for %(topic)r.") % {
                "pattern": pattern.text,
                "topic": topic,
            }
            context.report.refuse(binding.at(pattern.line), message, _("Write the routes out, one for each topic."))
            return None
        if _glob(pattern.text).fullmatch(topic):
            return True
    return False


def _is_literal(topic: str) -> bool:
    try:
        return Template.parse(topic, TemplatePlace.TOPIC).is_literal
    except TemplateError:
        return False


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def clusters_behind(cache: Binding, topic: str, context: ImportContext) -> Iterator[str]:
    """Return the cluster that a cache binding reads the topic from."""
    binding: Binding | None = cache
    while binding is not None and binding.type == "kafka":
        chosen = _choose(binding, topic, context)
        if chosen is None:
            return
        if binding.kind == "client":
            yield _known_cluster(binding, chosen, context)
            return
        binding = context.graph.target(binding, chosen)


_MODELS: Final = ("key", "value")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]*")
_BYTES: Final = {"model": "bytes"}


def read_topics(context: ImportContext) -> None:
    """Read the topics of every cache binding that something imported leads through."""
    for cache in context.caches.values():
        context.source = cache.source
        for leaf in cache.binding.options.texts("bootstrap"):
            _add_topic(cache.binding, leaf, context, bootstrap=True)
        for topic in cache.binding.options.branches("topics"):
            _read_models(cache, topic, context)
            _read_offset(cache.binding, topic, context)


def _read_offset(cache: Binding, topic: Branch, context: ImportContext) -> None:
    name = topic.get("name")
    offset = topic.text("defaultOffset")
    if offset and not (isinstance(name, Leaf) and is_topic_name(mask_env(name.text))):
        message = _("defaultOffset has no effect here: it is looked up by the exact name of a topic.")
        context.report.ignore(cache.at(topic.line_of("defaultOffset")), message)
    elif offset and isinstance(name, Leaf):
        _add_topic(cache, name, context, default_offset=offset)
    elif isinstance(name, Leaf) and len(topic.pairs) == 1:
        context.report.ignore(cache.at(topic.line), _("The topic %(name)r is only named.") % {"name": name.text})
    if "deltaType" in topic:
        context.report.ignore(cache.at(topic.line_of("deltaType")), _("deltaType: deltas are never asked for."))


def _read_models(cache: Cache, topic: Branch, context: ImportContext) -> None:
    binding, report = cache.binding, context.report
    for part in (*_MODELS, "transforms"):
        value = topic.get(part)
        place = binding.at(topic.line_of(part))
        if value is None:
            continue
        if not _concerns(topic.get("name"), cache.topics):
            report.ignore(
                place,
                _("The %(part)s of %(topic)r: no imported route reads or writes such a topic.")
                % {"part": part, "topic": topic.text("name")},
            )
        elif part == "transforms":
            message = _("Transforms of a topic are not supported: they change what filters see.")
            report.refuse(place, message, _("Let the producer set key and headers."))
        elif part == "value" and isinstance(value, Leaf):
            message = _("The bare model %(model)r is declared, but the reference does not enforce it.") % {"model": value.text}
            report.warn(place, message, _("It is not imported."))
        elif isinstance(value, Branch) and {key.text: each.text for key, each in value.text_items()} == _BYTES:
            report.ignore(place, _("The model bytes: every record fits."))
        else:
            message = _("The %(part)s model of a topic is not supported yet.") % {"part": part}
            advice = _("Without it, records would be neither checked nor converted. Remove it if the service checks them.")
            report.refuse(place, message, advice)


def _concerns(name: Node | None, topics: Iterable[str]) -> bool:
    """Return True if an entry for a topic may be about one of these. False is certain, True is not.

    In the reference a name is a regular expression, except for ``{x}``. Only its literal beginning is compared: a pattern from
    a file of unknown origin is not run.
    """
    if not isinstance(name, Leaf) or "|" in name.text:
        return True
    if _PLAIN.fullmatch(name.text):
        return any(topic == name.text or "$" in topic for topic in topics)
    start = _PLAIN.match(name.text)
    prefix = start[0][:-1] if start is not None else ""  # the last character may be repeated, or left out
    return any(topic.startswith(prefix) or "$" in topic for topic in topics)


def _add_topic(cache: Binding, name: Leaf, context: ImportContext, **said: Any) -> None:
    for cluster in clusters_behind(cache, name.text, context):
        known = context.topics.get((cluster, name.text)) or TopicPlan(
            source=context.source, cluster=cluster, name=name.text, said=frozenset(), place=cache.at(name.line)
        )
        context.topics[cluster, name.text] = replace(known, source=context.source, said=known.said | said.keys(), **said)
