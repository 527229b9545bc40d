"""The admin: where an operator makes clusters, gateways, routes and guards."""

from __future__ import annotations

from kafkaproxy.admin.clusters import ClusterAdmin, TopicAdmin
from kafkaproxy.admin.entries import EntryAdmin
from kafkaproxy.admin.gateways import GatewayAdmin
from kafkaproxy.admin.guards import GuardAdmin
from kafkaproxy.admin.routes import RouteAdmin

__all__ = ["ClusterAdmin", "EntryAdmin", "GatewayAdmin", "GuardAdmin", "RouteAdmin", "TopicAdmin"]
