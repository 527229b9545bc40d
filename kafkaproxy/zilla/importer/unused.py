"""What an import ignores: each binding and each section that is not used gets a line that says why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from kafkaproxy.zilla.bindings.graph import Binding, Graph
from kafkaproxy.zilla.importer.context import ImportContext
from kafkaproxy.zilla.importer.security import STATIC_GUARDS

__all__ = ["list_bindings", "list_sections"]

Key = tuple[str, str]
Edges = dict[Key, list[Key]]

_SECTIONS: Final = {
    "telemetry": gettext_noop("telemetry: metrics and logs are kafkaproxy's own."),
    "catalogs": gettext_noop("catalogs: no imported binding uses a schema."),
    "stores": gettext_noop("stores: no imported binding uses one."),
    "vaults": gettext_noop("vaults: keys of servers belong to whatever ends TLS; what a client trusts is read from them."),
}


def list_bindings(context: ImportContext, roots: Iterable[Binding]) -> None:
    """Report the bindings that are not used. ``roots``: what became gateways."""
    graph = context.graph
    on_the_way = graph.upstream() | graph.downstream()
    used = _used(graph, roots) & on_the_way
    told = {target.key for key in used if _tells(graph.bindings[key]) for target in graph.next(graph.bindings[key])}
    for binding in graph.bindings.values():
        if binding.key not in used and binding.key not in told:
            reason = _reason(binding, on_the_way)
            context.report.ignore(
                binding.place, _("The %(binding)s is not imported: %(reason)s") % {"binding": binding, "reason": reason}
            )


def _used(graph: Graph, roots: Iterable[Binding]) -> set[Key]:
    """Return what the roots lead to, and the tcp and tls servers that lead to them."""
    keys = [root.key for root in roots]
    after: Edges = {}
    before: Edges = {}
    for binding in graph.bindings.values():
        for target in graph.next(binding):
            after.setdefault(binding.key, []).append(target.key)
            before.setdefault(target.key, []).append(binding.key)
    fronts = _reached([front.key for front in graph.fronts()], after) & _reached(keys, before)
    return _reached(keys, after) | {key for key in fronts if _is_front(graph.bindings[key])}


def _reached(start: Iterable[Key], edges: Edges) -> set[Key]:
    waiting = list(start)
    found = set(waiting)
    while waiting:
        for key in edges.get(waiting.pop(), ()):
            if key not in found:
                found.add(key)
                waiting.append(key)
    return found


def _tells(binding: Binding) -> bool:
    """Return True if the targets of its routes were reported with them already, as not served."""
    return binding.kind == "server" and binding.type in ("http", "sse")


def _is_front(binding: Binding) -> bool:
    return binding.kind == "server" and binding.type in ("tcp", "tls")


def _reason(binding: Binding, on_the_way: set[Key]) -> str:
    if binding.key in on_the_way:
        return _("no tcp server leads to it.")
    if (binding.type, binding.kind) == ("tcp", "server"):
        return _("it leads to no http-kafka or sse-kafka binding.")
    return _("it is on no way to an http-kafka or sse-kafka binding, nor from one to Kafka.")


def list_sections(context: ImportContext) -> None:
    """Report the guards and sections that nothing imported needs, and options that are another server's."""
    report = context.report
    known = {each.place for each in context.guards.values()} | {each.where for each in report.findings}
    for (_namespace, name), guard in context.graph.guards.items():
        if guard.type not in STATIC_GUARDS and guard.place not in known:
            report.ignore(guard.place, _("The guard %(name)r: nothing that is imported uses it.") % {"name": name})
    on_the_way = context.graph.upstream() | context.graph.downstream()
    for key, binding in context.graph.bindings.items():
        if key in on_the_way:
            _list_options(binding, context)
    for document in context.graph.documents:
        for section, message in _SECTIONS.items():
            if section in document.body:
                report.ignore(document.place(document.body.line_of(section)), _(message))


def _list_options(binding: Binding, context: ImportContext) -> None:
    if "telemetry" in binding.node:
        context.report.ignore(binding.at(binding.node.line_of("telemetry")), _(_SECTIONS["telemetry"]))
    if (binding.type, binding.kind) == ("tcp", "server") and "options" in binding.node:
        place = binding.at(binding.node.line_of("options"))
        context.report.ignore(
            place, _("%(binding)r: the address to listen on is the ASGI server's.") % {"binding": binding.name}
        )
