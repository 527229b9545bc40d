"""What a tls client trusts, read from its vault. What cannot be read is refused: the system's CAs would be a wider trust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from kafkaproxy.specs.places import Place
from kafkaproxy.zilla.context import Context
from kafkaproxy.zilla.resolve import Binding, Named
from kafkaproxy.zilla.shape import suggest
from kafkaproxy.zilla.tree import Branch
from kafkaproxy.zilla.truststore import StoreError, read_certificates

__all__ = ["Tls", "client_tls"]

_BY_HAND: Final = gettext_noop("Make the cluster by hand with ssl_ca as PEM, and lead the kafka client to sys:tls_client.")


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the brokers. ``ca`` is PEM text, empty for the system's CAs."""

    ca: str = ""
    names: tuple[str, ...] = ()
    """The server names of ``sni``, against which the reference verifies certificates."""
    place: Place | None = None

    def check_names(self, servers: Sequence[str], context: Context) -> None:
        """Compare the names with the servers': only the name that was connected to is ever verified here."""
        if not self.names or self.place is None:
            return
        known = [context.variables.resolve(server) for server in servers]
        hosts = {server.rpartition(":")[0] for each in known if each is not None for server in each.split(",")}
        if None in known or hosts <= set(self.names):
            message = _("sni: certificates are verified for the brokers' own host names.")
            advice = _("They have to be for the names that the brokers advertise, not for %(names)s alone.") % {
                "names": ", ".join(self.names)
            }
            context.report.warn(self.place, message, advice)
            return
        message = _("sni: certificates would be verified for %(hosts)s, not for %(names)s.") % {
            "hosts": ", ".join(sorted(hosts)),
            "names": ", ".join(self.names),
        }
        context.report.refuse(self.place, message, _("Connect to the brokers by the names in their certificates, without sni."))


def client_tls(tls: Binding, context: Context) -> Tls:
    """Return the TLS settings of a client, refusing what has no equivalent."""
    options = tls.options
    _refuse_options(tls, options, context)
    trust = options.texts("trust")
    system = options.text("trustcacerts", "false" if trust else "true") == "true"
    place = tls.at(options.line_of("trust" if trust else "trustcacerts"))
    ca = ""
    if trust and system:
        message = _("Both the listed certificates and the system's CAs are trusted; here it is one or the other.")
        context.report.refuse(place, message, _("Remove trustcacerts, or remove trust."))
    elif trust:
        ca = _certificates(tls, [leaf.text for leaf in trust], place, context)
    elif not system:
        context.report.refuse(place, _("No certificate is trusted."), _("List some under trust, or remove trustcacerts."))
    names = tuple(leaf.text for leaf in options.texts("sni"))
    return Tls(ca, names, tls.at(options.line_of("sni")))


def _refuse_options(tls: Binding, options: Branch, context: Context) -> None:
    for name, advice in (
        (
            "keys",
            _("Make the cluster by hand with ssl_certificate and ssl_key: a private key is not copied into the database."),
        ),
        ("signers", _("Make the cluster by hand with ssl_certificate and ssl_key.")),
        ("version", _("Set the minimum version in OpenSSL's configuration, and remove it here.")),
        ("mutual", _("Remove it: it has no meaning on a client.")),
        ("authorization", _("Remove it: certificates of clients are not passed on.")),
    ):
        if name in options:
            context.report.refuse(
                tls.at(options.line_of(name)), _("%(name)s of a tls client is not supported.") % {"name": name}, advice
            )
    if "alpn" in options:
        context.report.ignore(tls.at(options.line_of("alpn")), _("alpn: Kafka does not use it."))


def _certificates(tls: Binding, aliases: list[str], place: Place, context: Context) -> str:
    name = tls.node.text("vault")
    vault = context.graph.vault(name, tls.namespace) if name else None
    if vault is None:
        names = [each for namespace, each in context.graph.vaults if namespace == tls.namespace]
        message = _("There is no vault %(name)r.") % {"name": name} if name else _("trust needs a vault, and there is none.")
        context.report.refuse(place, message, suggest(name, names) if names else _("Define it under vaults."))
        return ""
    store = vault.options.branch("trust") if vault.type == "filesystem" and vault.options is not None else None
    if store is None or not store.text("store"):
        context.report.refuse(
            vault.place, _("The vault %(name)r has no trust store that can be read.") % {"name": name}, _(_BY_HAND)
        )
        return ""
    try:
        return read_certificates(
            _path(store, vault, context), store.text("type", "pkcs12"), _password(store, vault, context), aliases
        )
    except StoreError as error:
        context.report.refuse(_store_place(store, vault), str(error), _(_BY_HAND))
        return ""


def _store_place(store: Branch, vault: Named) -> Place:
    return Place(vault.place.file, store.line_of("store"))


def _path(store: Branch, vault: Named, context: Context) -> Path:
    text = context.variables.require(store.text("store"), _store_place(store, vault), _("The trust store"))
    if text is None:
        raise StoreError(_("The trust store's path is not known without its variable: give it with --env."))
    if context.folder is None:
        raise StoreError(_("The trust store cannot be read from here: there is no folder that its path belongs to."))
    return context.folder / text


def _password(store: Branch, vault: Named, context: Context) -> str | None:
    text = store.text("password")
    value = context.variables.require(text, _store_place(store, vault), _("The trust store's password")) if text else None
    if text and value is None:
        raise StoreError(_("The trust store cannot be read without its password: give its variable with --env."))
    return value
