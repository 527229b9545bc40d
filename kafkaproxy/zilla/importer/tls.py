"""What a tls client trusts, read from its vault and the stores in it. Only certificates are read, never a private key.

What cannot be read is refused: the system's CAs would be a wider trust.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.bindings.graph import Binding, Declaration
from kafkaproxy.zilla.bindings.shape import suggest
from kafkaproxy.zilla.importer.context import ImportContext
from kafkaproxy.zilla.yaml.tree import Branch

__all__ = ["StoreError", "Tls", "client_tls", "read_certificates"]

_BY_HAND: Final = gettext_noop("Make the cluster by hand with ssl_ca as PEM, and lead the kafka client to sys:tls_client.")


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the brokers. ``ca`` is PEM text, empty for the system's CAs."""

    ca: str = ""
    names: tuple[str, ...] = ()
    """The server names of ``sni``, against which the reference verifies certificates."""
    place: FilePlace | None = None

    def check_names(self, servers: Sequence[str], context: ImportContext) -> None:
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


def client_tls(tls: Binding, context: ImportContext) -> Tls:
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


def _refuse_options(tls: Binding, options: Branch, context: ImportContext) -> None:
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


def _certificates(tls: Binding, aliases: list[str], place: FilePlace, context: ImportContext) -> str:
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


def _store_place(store: Branch, vault: Declaration) -> FilePlace:
    return FilePlace(vault.place.file, store.line_of("store"))


def _path(store: Branch, vault: Declaration, context: ImportContext) -> Path:
    text = context.variables.require(store.text("store"), _store_place(store, vault), _("The trust store"))
    if text is None:
        raise StoreError(_("The trust store's path is not known without its variable: give it with --env."))
    if context.folder is None:
        raise StoreError(_("The trust store cannot be read from here: there is no folder that its path belongs to."))
    return context.folder / text


def _password(store: Branch, vault: Declaration, context: ImportContext) -> str | None:
    text = store.text("password")
    value = context.variables.require(text, _store_place(store, vault), _("The trust store's password")) if text else None
    if text and value is None:
        raise StoreError(_("The trust store cannot be read without its password: give its variable with --env."))
    return value


_MAX_BYTES: Final = 4 * 1024 * 1024
_MAGIC: Final = b"\xfe\xed\xfe\xed"
_CERTIFICATE: Final = 2
_DIGEST_BYTES: Final = 20


class StoreError(ValueError):
    """The store cannot be read; the message says why."""


def read_certificates(path: Path, kind: str, password: str | None, aliases: Iterable[str]) -> str:
    """Return the certificates of ``aliases`` as PEM text; raise :class:`StoreError` where one cannot be had."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise StoreError(
            _("The trust store %(path)s cannot be read: %(strerror)s.") % {"path": path.name, "strerror": error.strerror}
        ) from error
    if len(data) > _MAX_BYTES:
        raise StoreError(_("The trust store %(path)s is too large.") % {"path": path.name})
    # Java opens a JKS store as PKCS12 and the other way round, so the type is not checked.
    found = _read_jks(data, password) if data.startswith(_MAGIC) else _read_pkcs12(data, kind, password)
    texts = []
    for alias in aliases:
        if alias.lower() not in found:  # Java compares aliases without regard to case
            raise StoreError(
                _("The trust store has no certificate %(alias)r. It has: %(names)s.")
                % {"alias": alias, "names": ", ".join(found) or "none"}
            )
        texts.append(_pem(found[alias.lower()]))
    return "".join(texts)


def _pem(der: bytes) -> str:
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def _read_jks(data: bytes, password: str | None) -> Mapping[str, bytes]:
    """Read a JKS store (the layout is of java.security.KeyStore, version 2), checking its digest with the password."""
    if password is not None and not _digest_fits(data, password):
        raise StoreError(_("The password does not open the trust store."))
    try:
        return dict(_JksReader(data[len(_MAGIC) : -_DIGEST_BYTES]).entries())
    except (IndexError, UnicodeDecodeError) as error:
        raise StoreError(_("The trust store is damaged.")) from error


def _digest_fits(data: bytes, password: str) -> bool:
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(password.encode("utf-16-be") + b"Mighty Aphrodite" + data[:-_DIGEST_BYTES])
    return hmac.compare_digest(digest.digest(), data[-_DIGEST_BYTES:])


class _JksReader:
    """Reads Java's DataOutput, in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._data):
            raise IndexError(size)
        self._at += size
        return self._data[self._at - size : self._at]

    def _integer(self, size: int = 4) -> int:
        return int.from_bytes(self._take(size), "big")

    def _text(self) -> str:
        return self._take(self._integer(2)).decode()

    def _certificate(self) -> bytes:
        self._text()  # the type, X.509
        return self._take(self._integer())

    def entries(self) -> Iterable[tuple[str, bytes]]:
        """Return the trusted certificates by alias; private keys are passed over."""
        self._integer()  # the version
        for _entry in range(self._integer()):
            tag, alias, _created = self._integer(), self._text().lower(), self._take(8)
            if tag == _CERTIFICATE:
                yield alias, self._certificate()
            else:
                self._take(self._integer())
                for _link in range(self._integer()):
                    self._certificate()


def _read_pkcs12(data: bytes, kind: str, password: str | None) -> Mapping[str, bytes]:
    try:
        from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
    except ImportError as error:
        raise StoreError(_("Reading a PKCS #12 store needs kafkaproxy[crypto].")) from error
    try:
        store = pkcs12.load_pkcs12(data, None if password is None else password.encode())
    except ValueError as error:
        raise StoreError(
            _("The trust store cannot be opened as %(kind)s: wrong password, or another format.") % {"kind": kind}
        ) from error
    return {
        (each.friendly_name or b"").decode(errors="replace").lower(): each.certificate.public_bytes(Encoding.DER)
        for each in store.additional_certs
    }
