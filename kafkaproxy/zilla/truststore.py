"""Certificates out of Java key stores: JKS, whose certificates are not encrypted, and PKCS #12 by ``cryptography``.

Only certificates are read. A private key never leaves its store.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from django.utils.translation import gettext as _

__all__ = ["StoreError", "read_certificates"]

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
    # Whatever the type says, Java opens either kind as the other.
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
        return dict(_Reader(data[len(_MAGIC) : -_DIGEST_BYTES]).entries())
    except (IndexError, UnicodeDecodeError) as error:
        raise StoreError(_("The trust store is damaged.")) from error


def _digest_fits(data: bytes, password: str) -> bool:
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(password.encode("utf-16-be") + b"Mighty Aphrodite" + data[:-_DIGEST_BYTES])
    return hmac.compare_digest(digest.digest(), data[-_DIGEST_BYTES:])


class _Reader:
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
