"""What an operator edits. No request ever reads these: they are compiled to a table (``kafkaproxy.routing``)."""

from __future__ import annotations

from kafkaproxy.models.cluster import Cluster, Topic
from kafkaproxy.models.gateway import AccessControl, Entry, EntryCondition, EntryGuard, Gateway
from kafkaproxy.models.guard import Guard
from kafkaproxy.models.imported import ImportedObject
from kafkaproxy.models.route import AsyncField, Condition, Filter, Override, Route, RouteGuard
from kafkaproxy.models.version import ConfigVersion

__all__ = [
    "AccessControl",
    "AsyncField",
    "Cluster",
    "Condition",
    "ConfigVersion",
    "Entry",
    "EntryCondition",
    "EntryGuard",
    "Filter",
    "Gateway",
    "Guard",
    "ImportedObject",
    "Override",
    "Route",
    "RouteGuard",
    "Topic",
]
