"""What cache bindings say about topics: where to start, what to read at once, and models, which are refused.

A model decides which records are written and served, and in which format. It is ignored only if no imported route uses the
topic, or every record fits it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from django.utils.translation import gettext as _

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.names import is_topic_name
from kafkaproxy.zilla.bindings.graph import Binding
from kafkaproxy.zilla.importer.context import Cache, ImportContext
from kafkaproxy.zilla.importer.kafka import clusters_behind
from kafkaproxy.zilla.plan import TopicPlan
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node

__all__ = ["read_topics"]

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
