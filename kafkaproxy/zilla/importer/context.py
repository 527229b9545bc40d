"""What the steps of an import share: the graph, the report, and the clusters, guards and caches found so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kafkaproxy.zilla.bindings.graph import Binding, Graph
from kafkaproxy.zilla.plan import ClusterPlan, GuardPlan, TopicPlan
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.variables import Variables

__all__ = ["Cache", "ImportContext"]


@dataclass(slots=True)
class Cache:
    """A cache binding on the way to Kafka, the source that first needed it, and the topics that pass through."""

    binding: Binding
    source: str
    topics: set[str] = field(default_factory=set)


@dataclass(slots=True)
class ImportContext:
    """The graph, where findings go, and what the gateways need besides themselves."""

    graph: Graph
    report: ImportReport
    variables: Variables
    folder: Path | None
    """Where relative paths of the file start; None: there is no folder (a text that was pasted)."""
    cluster: str = ""
    """The name of an existing cluster that a fragment uses."""
    source: str = ""
    """The source that is being worked on."""
    clusters: dict[str, ClusterPlan] = field(default_factory=dict)
    topics: dict[tuple[str, str], TopicPlan] = field(default_factory=dict)
    guards: dict[str, GuardPlan] = field(default_factory=dict)
    caches: dict[tuple[str, str], Cache] = field(default_factory=dict)
