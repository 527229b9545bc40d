"""Servers of an API: tcp, tls, http and sse servers, and which proxy each operation goes on to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.zilla.expand.composite import Address, Composite, Key, addresses
from kafkaproxy.zilla.expand.operations import Source
from kafkaproxy.zilla.expand.pairs import read_sources
from kafkaproxy.zilla.expand.rules import OperationGuard, RuleCondition, SchemeGuards
from kafkaproxy.zilla.expand.specification import Catalogs, ExpandError, Specification, reported
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, mapping, row, text

__all__ = ["Group", "Server", "front_nodes", "http_node", "read_servers"]

_SECURE: Final = ("https",)
_SERVED: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class Group:
    """Operations one after another that go the same way, with the same guard."""

    sources: tuple[Source, ...]
    exit: Key
    guard: OperationGuard | None

    @property
    def is_stream(self) -> bool:
        """Return True if these are streams."""
        return self.sources[0].is_stream

    @property
    def line(self) -> int:
        """The line of the first."""
        return self.sources[0].line


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """One specification of a server binding."""

    composite: Composite
    specification: Specification
    name: str
    addresses: tuple[Address, ...]
    sources: tuple[Source, ...]
    guards: SchemeGuards

    @property
    def bases(self) -> list[str]:
        """What stands before the paths of operations: one text for each way in."""
        return list(dict.fromkeys(each.path or "" for each in self.addresses))

    def conditions(self, source: Source) -> list[RuleCondition]:
        """Return what an operation answers to."""
        return [RuleCondition(source.method, text(base + source.path.text, source.path.line)) for base in self.bases]

    def groups(self, report: ImportReport) -> Iterator[Group]:
        """Return the operations, in the order of the document, grouped as far as they follow one another."""
        ways = [way for source in self.sources for way in self._way(source, report)]
        for _, same in groupby(ways, lambda way: (way[0].is_stream, way[1], way[2].key if way[2] is not None else None)):
            found = list(same)
            yield Group(tuple(way[0] for way in found), found[0][1], found[0][2])

    def _way(self, source: Source, report: ImportReport) -> Iterator[tuple[Source, Key, OperationGuard | None]]:
        """Return the guard of an operation, and where it goes on to; the reference guards streams only further on."""
        with reported(report):
            guard = None if source.is_stream else self.guards.of(source)
            yield source, self._exit(source), guard

    def _exit(self, source: Source) -> Key:
        for choice in self.composite.choices():
            if choice.admits(self.specification.label, source.name, source.tags):
                return self.composite.target(choice.exit.text)
        return self.composite.target("")


def read_servers(composite: Composite, catalogs: Catalogs, report: ImportReport) -> list[Server]:
    """Return the servers of a binding, one for each specification; raise ``ExpandError`` where they cannot be read."""
    found = []
    specifications = composite.specifications(catalogs, composite.type)
    for specification, (_, node) in zip(specifications, composite.specs().pairs, strict=True):
        assert isinstance(node, Branch)
        name = composite.name.text if len(specifications) == 1 else f"{composite.name.text}.{specification.label}"
        served = [each for each in addresses(composite, specification, node) if _is_served(composite, each, report)]
        if served:
            sources = tuple(read_sources(specification, report))
            guards = SchemeGuards(composite.document.name, specification.security, _credentials(composite))
            found.append(Server(composite, specification, name, tuple(served), sources, guards))
            _warn_of_security(found[-1], report)
    _check_ports(composite, found)
    return found


def _check_ports(composite: Composite, servers: list[Server]) -> None:
    seen: set[str] = set()
    for server in servers:
        ports = {each.port for each in server.addresses}
        if ports & seen:
            message = gettext("Two specifications of %(name)r are served on one port.") % {"name": composite.name.text}
            raise ExpandError(server.specification.place, message, gettext("Give each its own port, or its own binding."))
        seen |= ports


def _warn_of_security(server: Server, report: ImportReport) -> None:
    """Warn where the file does not say which guard a security scheme means, and where the reference does not read it."""
    specification, guard = server.specification, server.guards.credentials
    if guard is not None and specification.security is None and any(each.security for each in server.sources):
        message = gettext(
            "%(specification)r names no guards: %(guard)r, whose credentials are read, is that of every scheme."
        ) % {"specification": specification.label, "guard": guard.text}
        report.warn(specification.place, message, gettext("To say otherwise, write security: {SCHEME: GUARD}."))
    opened = [str(each) for each in server.sources if not each.security]
    for address in server.addresses:
        if opened and address.declared is not None and "security" in address.declared:
            message = gettext(
                "The security of a server protects no operation: these are open, as in the reference: %(opened)s."
            ) % {"opened": ", ".join(opened)}
            place = specification.at(address.declared.line_of("security"))
            report.warn(place, message, gettext("Write security at each operation."))


def _is_served(composite: Composite, address: Address, report: ImportReport) -> bool:
    if address.protocol in _SERVED:
        return True
    report.ignore(
        composite.at(address.line),
        gettext("The %(address)s server of %(composite)s is not imported.")
        % {"address": address.protocol or "unknown", "composite": composite},
    )
    return False


def _credentials(composite: Composite) -> Leaf | None:
    """Return the guard whose credentials the server reads."""
    http = composite.options.branch("http")
    authorization = http.branch("authorization") if http is not None else None
    return authorization.pairs[0][0] if authorization is not None and authorization.pairs else None


def front_nodes(server: Server) -> Iterator[tuple[str, Branch]]:
    """Return what stands in front of the http server: a tcp server, and for https a tls server behind another one."""
    composite, name = server.composite, server.name
    for kind, secure in (("tcp", False), ("tls", True)):
        same = [each for each in server.addresses if (each.protocol in _SECURE) is secure]
        if not same:
            continue
        line = same[0].line
        ports = [text(each.port, each.line) for each in same if each.port]
        options = mapping(line, {"port": row(ports, line)}) if ports else None
        exit_ = f"{name}.tls" if secure else name
        yield f"{name}.{kind}-listener", _node(composite, "tcp", {"options": options, "exit": exit_})
        if secure:
            passed = {"vault": composite.node.get("vault"), "options": composite.options.get("tls"), "exit": name}
            yield f"{name}.tls", _node(composite, "tls", passed)


def http_node(server: Server, routes: Iterable[tuple[Group, str]]) -> Branch:
    """Return the http server: each group with the binding that it leads to."""
    composite = server.composite
    line = composite.name.line
    http = composite.options.branch("http")
    options = mapping(
        line,
        {
            "access-control": mapping(line, {"policy": "cross-origin"}),
            "authorization": _own_names(server, http.branch("authorization") if http is not None else None),
        },
    )
    found = row([_route(server, group, exit_) for group, exit_ in routes], line)
    return _node(composite, "http", {"options": options, "routes": found, "telemetry": composite.node.get("telemetry")})


def _own_names(server: Server, authorization: Branch | None) -> Branch | None:
    """Return the credentials, with a guard that the 1.x dialect may call by its namespace too."""
    if authorization is None:
        return None
    prefix = f"{server.composite.document.name}:"
    pairs = ((Leaf(guard.text.removeprefix(prefix), guard.line), node) for guard, node in authorization.pairs)
    return Branch(tuple(pairs), authorization.line)


def _route(server: Server, group: Group, exit_: str) -> Branch:
    conditions = [condition for source in group.sources for condition in server.conditions(source)]
    headers = [mapping(each.path.line, {":path": each.outer, ":method": each.method}) for each in conditions]
    properties: dict[str, Node | str | None] = {
        "when": row([mapping(each.line, {"headers": each}) for each in headers], group.line),
        "guarded": group.guard.node() if group.guard is not None else None,
        "exit": exit_,
    }
    return mapping(group.line, properties)


def _node(composite: Composite, type_: str, properties: dict[str, Node | str | None]) -> Branch:
    line = composite.name.line
    return mapping(line, {"type": type_, "kind": "server", **properties})
