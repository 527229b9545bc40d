"""The tcp and tls servers in front of an http server, and what they test.

Django does not choose its listeners by route, so ports and certificates are left to the site's server. A server name
that a tls server insists on becomes a condition. A server that admits clients by address or by client certificate is refused,
as the import would admit others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext as _

from kafkaproxy.specs.types import EntryConditionSpec
from kafkaproxy.zilla.bindings.graph import Binding, Exit
from kafkaproxy.zilla.bindings.shape import has_expression
from kafkaproxy.zilla.importer.context import ImportContext
from kafkaproxy.zilla.importer.patterns import entry_pattern, is_any_address, is_checked
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, Row

__all__ = ["Way", "ways_to_servers"]

_CERTIFICATES_OF_CLIENTS: Final = ("trust", "signers", "authorization")


@dataclass(frozen=True, slots=True)
class Way:
    """One way in. ``name`` is a pattern of server names (SNI) that it insists on, empty for any."""

    server: Binding
    ports: frozenset[int] | None
    """None: they come from the environment."""
    tls: bool
    name: str = ""

    def condition(self, level: int) -> EntryConditionSpec | None:
        """Return what the way tests, as far as a request shows it."""
        if not self.name:
            return None
        return EntryConditionSpec(level=level, scheme="https", authority=f"{entry_pattern(self.name)}:*")


def ways_to_servers(context: ImportContext) -> list[Way]:
    """Return the ways to http servers that lead to a mapping, in order: from tcp servers, or from tls servers at the front."""
    fronts = context.graph.fronts()
    ways = [way for front in fronts if front.type == "tcp" for way in _from_tcp(front, context)]
    ways += [way for front in fronts if front.type == "tls" for way in _from_tls(front, None, context)]
    return [way for way in ways if way.server.key in context.graph.upstream()]


def _from_tcp(tcp: Binding, context: ImportContext) -> Iterator[Way]:
    listening = _ports(tcp.options.get("port"))
    left = listening
    for exit_ in tcp.exits:
        wanted = _ports_of(exit_, tcp, context)
        taken = left if wanted is None else wanted if left is None else left & wanted
        if taken is not None and not taken:
            context.report.ignore(
                exit_.place,
                _("%(target)r is never reached from %(tcp)r: no port is left for it.")
                % {"target": exit_.target, "tcp": tcp.name},
            )
            continue
        left = None if left is None or taken is None else left - taken
        target = context.graph.target(tcp, exit_)
        if target is not None and target.type == "tls":
            yield from _from_tls(target, taken, context)
        elif target is not None and target.type == "http":
            yield Way(target, taken, tls=False)
        else:
            _refuse_shortcut(tcp, exit_, context)


def _ports_of(exit_: Exit, tcp: Binding, context: ImportContext) -> frozenset[int] | None:
    """Return the ports that a route wants, None for any; addresses are refused."""
    ports: frozenset[int] | None = frozenset()
    for when in exit_.when:
        _check_addresses(when, tcp, context)
        found = _ports(when.get("port"))
        ports = None if ports is None or found is None else ports | found
    return ports if exit_.when else None


def _check_addresses(when: Branch, tcp: Binding, context: ImportContext) -> None:
    for name in ("cidr", "authority"):
        if name not in when:
            continue
        place = tcp.at(when.line_of(name))
        if is_any_address(name, when.text(name)):
            context.report.ignore(
                place, _("%(name)s: %(when)s holds for every address.") % {"name": name, "when": when.text(name)}
            )
            continue
        message = _("%(name)s limits the addresses that are served; that is not supported.") % {"name": name}
        context.report.refuse(place, message, _("Bind the server to those addresses, and remove the condition."))


def _ports(node: Node | None) -> frozenset[int] | None:
    """Return port numbers; None where none are given, or not known here."""
    if node is None:
        return None
    leaves = node.items if isinstance(node, Row) else (node,)
    ports: set[int] = set()
    for leaf in leaves:
        if not isinstance(leaf, Leaf) or has_expression(leaf.text):
            return None
        first, _, last = leaf.text.partition("-")
        if len(first) < 6 and len(last) < 6:  # more digits are no port
            ports.update(range(int(first), min(int(last or first), 65535) + 1))
    return frozenset(ports)


def _from_tls(tls: Binding, ports: frozenset[int] | None, context: ImportContext) -> Iterator[Way]:
    if tls.kind == "server":
        _refuse_client_certificates(tls, context)
    context.report.ignore(
        tls.place, _("%(tls)r: TLS ends at the server in front of Django, with its own certificate.") % {"tls": tls.name}
    )
    targets = {exit_.target for exit_ in tls.exits}
    for exit_ in tls.exits:
        target = context.graph.target(tls, exit_)
        if exit_.when and len(targets) > 1:
            message = _("%(tls)r chooses between several bindings before there is a request; that is not supported.") % {
                "tls": tls.name
            }
            context.report.refuse(exit_.place, message, _("Choose by :authority in the routes of the http server."))
        elif target is not None and target.type == "http":
            for name in _server_names(tls, exit_, context):
                yield Way(target, ports, tls=True, name=name)
        else:
            _refuse_shortcut(tls, exit_, context)


def _refuse_shortcut(server: Binding, exit_: Exit, context: ImportContext) -> None:
    """Refuse a way to a mapping that passes no http server: its requests would not be known."""
    target = context.graph.target(server, exit_)
    if target is not None and target.key in context.graph.upstream():
        message = _("The %(target)s cannot come directly after a %(server_type)s server.") % {
            "target": target,
            "server_type": server.type,
        }
        context.report.refuse(exit_.place, message, _("Lead to an http server, and from there to it."))


def _refuse_client_certificates(tls: Binding, context: ImportContext) -> None:
    options = tls.options
    for name in _CERTIFICATES_OF_CLIENTS:
        if name in options:
            _refuse_certificate(tls, options, name, context)
    if options.text("mutual", "none") != "none":
        _refuse_certificate(tls, options, "mutual", context)
    vault = context.graph.vault(tls.node.text("vault"), tls.namespace)
    vault_options = vault.options if vault is not None else None
    if vault_options is not None and "trust" in vault_options and "keys" not in options:
        _refuse_certificate(tls, options, "vault", context)


def _refuse_certificate(tls: Binding, options: Branch, name: str, context: ImportContext) -> None:
    line = options.line_of(name) if name in options else tls.node.line_of(name)
    message = _("%(name)s makes client certificates count; they are not checked here.") % {"name": name}
    context.report.refuse(tls.at(line), message, _("Check them where TLS ends, or use a guard, and remove it."))


def _server_names(tls: Binding, exit_: Exit, context: ImportContext) -> Iterator[str]:
    """Return the server names that a route of a tls server wants; one empty name for any."""
    if not exit_.when:
        yield ""
    for when in exit_.when:
        for name in ("alpn", "trust", "mutual"):
            if name in when:
                message = _("A condition on %(name)s cannot be checked: TLS ends before Django.") % {"name": name}
                context.report.refuse(tls.at(when.line_of(name)), message, _("Remove it, or check it where TLS ends."))
        authority = when.get("authority")
        if isinstance(authority, Leaf):
            is_checked(authority, tls.at(authority.line), context.report)
            yield authority.text
        else:
            yield ""
