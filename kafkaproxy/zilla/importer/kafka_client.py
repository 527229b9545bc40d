"""A kafka client and what it leads to, as a cluster: servers, SASL in both dialects, TLS."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext as _

from kafkaproxy.zilla.bindings.graph import Binding, Exit
from kafkaproxy.zilla.importer.context import ImportContext
from kafkaproxy.zilla.importer.patterns import is_any_address
from kafkaproxy.zilla.importer.security import STATIC_GUARDS
from kafkaproxy.zilla.importer.tls import Tls, client_tls
from kafkaproxy.zilla.plan import ClusterPlan
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Row

__all__ = ["cluster_of"]

_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:,/\s\[\]]+):[0-9]{1,5}")
_PROTOCOLS: Final = {
    (False, False): "PLAINTEXT",
    (False, True): "SSL",
    (True, False): "SASL_PLAINTEXT",
    (True, True): "SASL_SSL",
}
"""By whether there is SASL, and TLS."""
_MECHANISMS: Final = {"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"}


@dataclass(frozen=True, slots=True)
class _Sasl:
    mechanism: str = ""
    username: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class _Wire:
    """What a kafka client leads to: a tcp client (None where it is the built-in one), perhaps behind TLS."""

    tcp: Binding | None = None
    tls: Tls | None = None


def cluster_of(client: Binding, chosen: Exit, origin: str, context: ImportContext) -> ClusterPlan:
    """Return the cluster that a kafka client stands for; what cannot be read is refused in the report."""
    wire = _wire(client, chosen, context)
    servers = _servers(client, wire.tcp, context)
    if wire.tls is not None:
        wire.tls.check_names(servers, context)
    sasl = _sasl(client, context)
    return ClusterPlan(
        origin=origin,
        source=context.source,
        name=client.name,
        bootstrap_servers=",".join(servers),
        security_protocol=_PROTOCOLS[bool(sasl.mechanism), wire.tls is not None],
        sasl_mechanism=sasl.mechanism,
        sasl_username=sasl.username,
        sasl_password=sasl.password,
        ssl_ca=wire.tls.ca if wire.tls is not None else "",
        place=client.place,
    )


def _wire(client: Binding, chosen: Exit, context: ImportContext) -> _Wire:
    if chosen.target == "sys:tcp_client":
        return _Wire()
    if chosen.target == "sys:tls_client":
        return _Wire(tls=Tls())
    target = context.graph.target(client, chosen)
    if target is not None and (target.type, target.kind) == ("tcp", "client"):
        return _Wire(_tcp(target, context))
    if target is not None and (target.type, target.kind) == ("tls", "client"):
        tls = client_tls(target, context)
        return _Wire(_behind_tls(target, context), tls)
    context.report.refuse(
        chosen.place,
        _("%(target)r is no tcp or tls client.") % {"target": chosen.target},
        _("Lead the kafka client to one."),
    )
    return _Wire()


def _behind_tls(tls: Binding, context: ImportContext) -> Binding | None:
    """Return the tcp client behind a tls client, whose routes may not choose between several."""
    for exit_ in tls.exits:
        if exit_.when or exit_.guarded:
            message = _("A condition on the way to the brokers is not understood.")
            context.report.refuse(exit_.place, message, _("Lead the tls client to one tcp client by its exit."))
            return None
    following = context.graph.target(tls, tls.exits[0]) if tls.exits else None
    if following is not None and (following.type, following.kind) == ("tcp", "client"):
        return _tcp(following, context)
    if not tls.exits or tls.exits[0].target != "sys:tcp_client":
        context.report.refuse(
            tls.place, _("%(tls)r does not lead to a tcp client.") % {"tls": tls.name}, _("Give it an exit to one.")
        )
    return None


def _tcp(tcp: Binding, context: ImportContext) -> Binding:
    conditions = [exit_.when for exit_ in tcp.exits]
    if any(not when or any(map(_is_open, when)) for when in conditions):
        place = tcp.at(tcp.node.line_of("routes"))
        context.report.ignore(place, _("The routes of %(tcp)r let every broker be connected to.") % {"tcp": tcp.name})
    elif conditions:
        message = _("The routes of %(tcp)r limit which brokers are connected to; that is not supported.") % {"tcp": tcp.name}
        context.report.refuse(tcp.at(tcp.node.line_of("routes")), message, _("Limit it in the network, and remove the routes."))
    return tcp


def _is_open(when: Branch) -> bool:
    """Return True if a condition on the brokers' addresses matches every address."""
    return all(name.text != "port" and is_any_address(name.text, when.text(name.text)) for name, _ in when.pairs)


def _servers(client: Binding, tcp: Binding | None, context: ImportContext) -> list[str]:
    leaves = [leaf for leaf in client.options.texts("servers") if _is_server(leaf, client, context)]
    if leaves:
        return [leaf.text for leaf in leaves]
    if client.options.texts("servers"):
        return []  # refused above
    host, port = _address(tcp)
    if not host or not port:
        message = _("Nothing says where the brokers of %(client)r are.") % {"client": client.name}
        context.report.refuse(client.place, message, _("Add options.servers with host:port."))
        return []
    context.variables.require(f"{host}:{port}", client.place, _("The address of the brokers"))
    return [f"{host}:{port}"]


def _address(tcp: Binding | None) -> tuple[str, str]:
    """Return where a tcp client connects to, when the kafka client names no servers."""
    if tcp is None:
        return "", ""
    port = tcp.options.get("port")
    if isinstance(port, Row):
        port = port.items[0] if len(port.items) == 1 else None
    host = tcp.options.text("host")
    return host, port.text if isinstance(port, Leaf) else ""


def _is_server(leaf: Leaf, client: Binding, context: ImportContext) -> bool:
    text = context.variables.require(leaf.text, client.at(leaf.line), _("The address of the brokers"))
    if text is None or "${{" in text or text == "embedded" or all(_SERVER.fullmatch(part.strip()) for part in text.split(",")):
        return True
    shown = leaf.text if text == leaf.text else f"{leaf.text} (here {text!r})"
    context.report.refuse(
        client.at(leaf.line), _("%(shown)s is not the address of a broker.") % {"shown": shown}, _("Write host:port.")
    )
    return False


def _sasl(client: Binding, context: ImportContext) -> _Sasl:
    """Return the credentials for Kafka: ``sasl`` of the 1.x dialect, or ``authorization`` of 2.x."""
    old, new = client.options.branch("sasl"), client.options.branch("authorization")
    if old is not None and new is not None and new.pairs:
        place = client.at(client.options.line_of("sasl"))
        context.report.refuse(place, _("Both sasl and authorization are given."), _("Keep one of them."))
    if old is not None:
        return _read_sasl(client, old, {}, context)
    if new is None or not new.pairs:
        return _Sasl()
    guard, node = new.pairs[0]
    credentials = node.branch("credentials") if isinstance(node, Branch) else None
    values = _static_values(client, guard, context)
    if credentials is None or values is None:
        return _Sasl()
    return _read_sasl(client, credentials, values, context)


def _static_values(client: Binding, guard: Leaf, context: ImportContext) -> dict[str, str] | None:
    """Return what ``{identity}`` and ``{credentials}`` stand for; None, and refused, where the request decides it."""
    found = context.graph.guard(guard.text, client.namespace)
    place = client.at(guard.line)
    if found is None:
        context.report.refuse(place, _("There is no guard %(guard)r.") % {"guard": guard.text}, _("Define it under guards."))
        return None
    if found.type not in STATIC_GUARDS:
        message = _("Each client's own credentials would be passed on to Kafka (guard type %(found_type)r).") % {
            "found_type": found.type
        }
        advice = _("That is not supported: use a guard of type inline, and authorize by guarded routes.")
        context.report.refuse(place, message, advice)
        return None
    options = found.options or Branch((), found.place.line)
    context.variables.note(options, found.place.file)
    return {f"{{{key.text}}}": value.text for key, value in options.text_items()}


def _read_sasl(client: Binding, node: Branch, values: dict[str, str], context: ImportContext) -> _Sasl:
    mechanism = node.text("mechanism")
    place = client.at(node.line_of("mechanism"))
    if mechanism not in _MECHANISMS:
        message = _("The SASL mechanism %(mechanism)r is not supported by the Kafka client library.") % {"mechanism": mechanism}
        advice = _("Use plain, scram-sha-256 or scram-sha-512.")
        if mechanism == "oauthbearer":
            message = _("A fixed bearer token for Kafka would expire and could not be renewed.")
            advice = _("Use another mechanism, or make the cluster by hand with OAUTHBEARER and the token endpoint's options.")
        context.report.refuse(place, message, advice)
        return _Sasl()
    username, password = (_secret(client, node, name, values, context) for name in ("username", "password"))
    return _Sasl(_MECHANISMS[mechanism], username, password)


def _secret(client: Binding, node: Branch, name: str, values: dict[str, str], context: ImportContext) -> str:
    text = node.text(name)
    place = client.at(node.line_of(name))
    if text in ("{identity}", "{credentials}"):
        if text not in values:
            context.report.refuse(
                place,
                _("The guard has no %(name)s.") % {"name": text[1:-1]},
                _("Add %(name)s to its options.") % {"name": text[1:-1]},
            )
            return ""
        text = values[text]
    context.variables.require(text, place, _("The SASL %(name)s") % {"name": name})
    if name == "password" and "${{" not in text:
        context.report.warn(
            place, _("The password is written out in the file, and would be in the database."), _("Use ${{env.NAME}}.")
        )
    return text
