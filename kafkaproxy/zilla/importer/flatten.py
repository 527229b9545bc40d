"""From the binding graph to the plan: one gateway for each http server that reaches a mapping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from kafkaproxy.specs.types import EntryConditionSpec, EntrySpec
from kafkaproxy.zilla.bindings.graph import Binding
from kafkaproxy.zilla.bindings.shape import has_expression
from kafkaproxy.zilla.importer.context import ImportContext
from kafkaproxy.zilla.importer.entries import entries_of_http, entries_of_mapping, entries_of_sse
from kafkaproxy.zilla.importer.kafka import read_topics
from kafkaproxy.zilla.importer.listeners import Way, ways_to_servers
from kafkaproxy.zilla.importer.mapping import gateway_fields
from kafkaproxy.zilla.importer.security import access_control, credentials
from kafkaproxy.zilla.importer.unused import list_bindings, list_sections
from kafkaproxy.zilla.plan import GatewayPlan, Plan

__all__ = ["flatten"]


@dataclass(frozen=True, slots=True)
class _Root:
    """What becomes a gateway, and the ways to it: an http server, or in a fragment its first binding."""

    binding: Binding
    ways: tuple[Way, ...] = ()


def flatten(context: ImportContext, name: str, default_name: str) -> Plan:
    """Return the plan. ``name`` overrides the namespace's as the gateway's; ``default_name`` is for a fragment without one."""
    on_the_way = context.graph.upstream() | context.graph.downstream()
    for key, binding in context.graph.bindings.items():  # not the set itself, whose order is another in every process
        if key in on_the_way:
            context.variables.note(binding.node, binding.place.file)
    roots = _roots(context)
    if not roots:
        if not context.report.is_refused():
            _refuse_nothing(context)
            list_bindings(context, [])
        return Plan()
    sources = _sources(roots, context, name, default_name)
    gateways = tuple(_gateway(root, roots, sources, context) for root in roots)
    if not any(entry.routes for gateway in gateways for entry in gateway.entries) and not context.report.is_refused():
        _refuse_nothing(context)
    read_topics(context)
    list_bindings(context, [root.binding for root in roots])
    list_sections(context)
    return Plan(
        gateways=gateways,
        clusters=tuple(context.clusters.values()),
        topics=tuple(context.topics.values()),
        guards=tuple(context.guards.values()),
    )


def _roots(context: ImportContext) -> list[_Root]:
    graph = context.graph
    by_server: dict[tuple[str, str], list[Way]] = {}
    for way in ways_to_servers(context):
        by_server.setdefault(way.server.key, []).append(way)
    roots = [_Root(graph.bindings[key], tuple(ways)) for key, ways in by_server.items()]
    roots += [_Root(each) for each in graph.fronts() if each.type not in ("tcp", "tls")]
    _warn_of_merged_listeners(roots, context)
    return roots


def _refuse_nothing(context: ImportContext) -> None:
    first = context.graph.documents[0]
    message = _("There is nothing to import: no tcp server leads to an http-kafka or sse-kafka binding.")
    context.report.refuse(first.place(first.body.line), message, _("Check the exits from the tcp server onward."))


def _warn_of_merged_listeners(roots: list[_Root], context: ImportContext) -> None:
    """Warn that servers on different ports become one: a private server must not become public unnoticed."""
    served = [root for root in roots if root.ways]
    ports = [frozenset().union(*(way.ports or frozenset() for way in root.ways)) for root in served]
    if len(served) > 1 and len(set(ports)) > 1:
        for root, numbers in zip(served, ports, strict=True):
            listed = ", ".join(map(str, sorted(numbers)[:5])) or _("from the environment")
            message = _("%(binding)r listens on its own port (%(listed)s); here all gateways are served on every port.") % {
                "binding": root.binding.name,
                "listed": listed,
            }
            context.report.warn(root.binding.place, message, _("If one is private, add an :authority condition or a guard."))


def _warn_of_plain_http(root: _Root, entries: Iterable[EntrySpec], context: ImportContext) -> None:
    """Warn that routes that were served over TLS only are served with whatever scheme Django is served."""
    if not root.ways or not all(way.tls for way in root.ways):
        return
    for entry in entries:
        plain = {row.level for row in entry.conditions if row.scheme != "https"}
        if entry.routes and not {row.level for row in entry.conditions} - plain:
            message = _("%(binding)r is reached over TLS only; nothing here refuses plain HTTP.") % {
                "binding": root.binding.name
            }
            advice = _("Redirect in front of Django, or add the condition :scheme: https.")
            context.report.warn(root.binding.place, message, advice)


def _sources(roots: list[_Root], context: ImportContext, name: str, default_name: str) -> Mapping[str, str]:
    """Return the source name of each namespace: what an import made is remembered by it."""
    namespaces = list(dict.fromkeys(root.binding.namespace for root in roots))
    if name and len(namespaces) > 1:
        place = roots[0].binding.place
        message = _("The file has gateways in several namespaces: %(namespaces)s.") % {"namespaces": ", ".join(namespaces)}
        context.report.refuse(place, message, _("Leave --gateway out, or import the documents one by one."))
    for namespace in namespaces:
        if not name and has_expression(namespace):
            place = next(each.place(each.body.line_of("name")) for each in context.graph.documents if each.name == namespace)
            message = _("The name %(namespace)r comes from the environment, and a gateway needs one that stays.") % {
                "namespace": namespace
            }
            context.report.refuse(place, message, _("Give it with --gateway NAME."))
    return {namespace: name or namespace or default_name for namespace in namespaces}


def _gateway(root: _Root, roots: list[_Root], sources: Mapping[str, str], context: ImportContext) -> GatewayPlan:
    source = context.source = sources[root.binding.namespace]
    several = sum(each.binding.namespace == root.binding.namespace for each in roots) > 1
    http = root.binding if root.binding.type == "http" else None
    entries = _entries(root, context)
    _warn_of_plain_http(root, entries, context)
    fields = _credentials(http, entries, context)
    return GatewayPlan(
        source=source,
        name=f"{source}.{root.binding.name}" if several else source,
        cluster=_cluster(entries),
        entries=entries,
        access_control=access_control(http, context),
        place=root.binding.place,
        **fields,
        **_mapping_fields(root, context),
    )


def _entries(root: _Root, context: ImportContext) -> tuple[EntrySpec, ...]:
    match root.binding.type:
        case "http":
            return entries_of_http(root.binding, _listener(root.ways), context)
        case "sse":
            return entries_of_sse(root.binding, context)
        case _:
            return entries_of_mapping(root.binding, context)


def _listener(ways: Iterable[Way]) -> tuple[EntryConditionSpec, ...]:
    """Return the conditions of the ways; none if one way tests nothing."""
    conditions = [way.condition(0) for way in ways]
    found = [each for each in conditions if each is not None]
    return _distinct(found) if len(found) == len(conditions) else ()


def _distinct(rows: Iterable[EntryConditionSpec]) -> tuple[EntryConditionSpec, ...]:
    distinct: list[EntryConditionSpec] = []
    for row in rows:
        if row not in distinct:
            distinct.append(row)
    return tuple(distinct)


def _cluster(entries: Iterable[EntrySpec]) -> str:
    """Return the cluster that most routes use; of several with as many, the first."""
    counted = Counter(route.cluster or "" for entry in entries for route in entry.routes)
    return counted.most_common(1)[0][0] if counted else ""


def _credentials(http: Binding | None, entries: Iterable[EntrySpec], context: ImportContext) -> dict[str, Any]:
    if http is None:
        return {}
    fields = credentials(http, context)
    guards = {name for entry in entries for name in entry.guarded}
    guards.update(name for entry in entries for route in entry.routes for name in route.guarded)
    place = http.at(http.options.line_of("authorization"))
    if fields and not guards:
        message = _("Credentials of %(guard)r are read, but no route is guarded: everything is public.") % {
            "guard": fields["guard"]
        }
        context.report.warn(place, message, _("Add guarded to the routes, if that is not meant."))
    elif others := sorted(guards - {fields.get("guard")}):
        message = _("Nothing says where the credentials of %(others)s are found: nobody gets past.") % {
            "others": ", ".join(others)
        }
        context.report.warn(http.place, message, _("One http server reads the credentials of one guard."))
    return fields


def _mapping_fields(root: _Root, context: ImportContext) -> dict[str, Any]:
    """Return the gateway's field names, which all its http-kafka bindings have to agree on."""
    found: dict[str, str] = {}
    first: Binding | None = None
    for mapping in _mappings_behind(root.binding, context):
        fields = gateway_fields(mapping)
        if first is not None and fields != found:
            message = _("%(mapping)r has other correlation or idempotency headers than %(first)r.") % {
                "mapping": mapping.name,
                "first": first.name,
            }
            context.report.refuse(
                mapping.place, message, _("A gateway has one set of them: use the same, or two http servers.")
            )
        first, found = first or mapping, found if first is not None else fields
    return found


def _mappings_behind(binding: Binding, context: ImportContext) -> list[Binding]:
    if binding.type == "http-kafka":
        return [binding]
    found = {target.key: target for target in context.graph.next(binding) if target.type == "http-kafka"}
    return list(found.values())
