"""Which topics the routes name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from django.db.models import Q
from django.utils.translation import gettext as _

from kafkaproxy.core.env import env_names
from kafkaproxy.core.expressions import Place, Template
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.models import Cluster, Route, Topic

__all__ = ["fixed_topics", "unused_topics"]


def unused_topics(topics: Iterable[Topic]) -> Iterator[str]:
    """Warn of each row that tunes a topic which no route names: most often its name is misspelt."""
    named: dict[int, list[re.Pattern[str]]] = {}
    for topic in topics:
        if topic.cluster_id not in named:
            named[topic.cluster_id] = _named_in(topic.cluster)
        if not topic.bootstrap and not any(pattern.fullmatch(topic.name) for pattern in named[topic.cluster_id]):
            message = _("No route names the topic “%(topic)s” of %(cluster)s: check its spelling, or keep it for later.")
            yield message % {"topic": topic.name, "cluster": topic.cluster}


def fixed_topics(cluster: Cluster) -> set[str]:
    """Return the topics that rows or routes name without a variable part."""
    texts = {*_texts(cluster), *cluster.topics.values_list("name", flat=True)}
    return {text for text in texts if "$" not in text}


def _named_in(cluster: Cluster) -> list[re.Pattern[str]]:
    return [_pattern(text) for text in _texts(cluster)]


def _texts(cluster: Cluster) -> set[str]:
    own = Q(cluster=cluster) | Q(cluster=None, entry__gateway__cluster=cluster)
    pairs = Route.objects.filter(own).order_by().values_list("topic", "reply_to").distinct()
    return {text for pair in pairs for text in pair if text}


def _pattern(text: str) -> re.Pattern[str]:
    """Return what the template can become; an environment variable may become anything."""
    try:
        parts = Template.parse(text, Place.TOPIC).parts
    except TemplateError:
        parts = (text,)
    if env_names(text):
        return re.compile(".*")
    return re.compile("".join(re.escape(part) if isinstance(part, str) else ".+" for part in parts))
