"""A plan as the tree of a zilla.yaml: one namespace, one http server."""

from __future__ import annotations

from typing import Any, Final

from kafkaproxy.specs.types import AccessControlSpec
from kafkaproxy.zilla.export_entries import HttpSide
from kafkaproxy.zilla.export_kafka import kafka_side
from kafkaproxy.zilla.export_remarks import Remarks
from kafkaproxy.zilla.names import Names
from kafkaproxy.zilla.plan import GatewayPlan, Plan

__all__ = ["document_of"]

_PORT: Final = 7114
"""The port of the reference's examples. An import does not look at it."""

Tree = dict[str, Any]


def document_of(plan: Plan, dialect: int, remarks: Remarks) -> Tree:
    """Return the document of the plan's one gateway."""
    gateway = plan.gateways[0]
    names = Names()
    side = kafka_side(plan, names, dialect)
    tcp, http = names.take("tcp_server"), names.take("http_server")
    behind = HttpSide(gateway, side.exits, names, remarks)
    routes = behind.routes()
    server: Tree = {"type": "http", "kind": "server", "options": _http_options(gateway), "routes": routes}
    guards = {guard.name: {"type": guard.kind, "options": dict(guard.options)} for guard in plan.guards}
    sections = {"guards": guards | side.guards, "vaults": side.vaults}
    bindings = {
        tcp: {"type": "tcp", "kind": "server", "options": {"host": "0.0.0.0", "port": _PORT}, "exit": http},  # noqa: S104
        http: server,
        **behind.bindings,
        **side.bindings,
    }
    return {"name": gateway.name, **{name: each for name, each in sections.items() if each}, "bindings": bindings}


def _http_options(gateway: GatewayPlan) -> Tree:
    options: Tree = {"access-control": _access_control(gateway.access_control)}
    if gateway.guard is not None:
        places = {
            "cookies": dict(gateway.credentials_cookies),
            "headers": dict(gateway.credentials_headers),
            "query": dict(gateway.credentials_query),
        }
        credentials = {name: each for name, each in places.items() if each}
        options["authorization"] = {gateway.guard: {"credentials": credentials}}
    return options


def _access_control(plan: AccessControlSpec) -> Tree:
    lists = {"origins": plan.allow_origins, "methods": plan.allow_methods, "headers": plan.allow_headers}
    allow: Tree = {name: list(each) for name, each in lists.items() if each is not None}
    if plan.allow_credentials:
        allow["credentials"] = True
    section: Tree = {"policy": plan.policy}
    if allow:
        section["allow"] = allow
    if plan.max_age is not None:
        section["max-age"] = plan.max_age
    if plan.expose_headers is not None:
        section["expose"] = {"headers": list(plan.expose_headers)}
    return section
