"""Certificates are read from Java's key stores; whatever cannot be read, or is not there, is an error."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from kafkaproxy.zilla.importer import tls as truststore
from kafkaproxy.zilla.importer.tls import StoreError, read_certificates
from tests.support.zilla_samples import BASE, edited, planned

_PASSWORD = "changeit"


def _certificate(name: str) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=9999))
    return builder.sign(key, hashes.SHA256())


_CERTIFICATE = _certificate("kafka")
_DER = _CERTIFICATE.public_bytes(Encoding.DER)
_PEM = _CERTIFICATE.public_bytes(Encoding.PEM).decode()


def _text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def _jks(*, with_key: bool = False, password: str = _PASSWORD) -> bytes:
    certificate = _text("X.509") + len(_DER).to_bytes(4, "big") + _DER
    entries = [(2).to_bytes(4, "big") + _text("kafka") + bytes(8) + certificate]
    if with_key:
        key = (1).to_bytes(4, "big") + _text("mine") + bytes(8) + (3).to_bytes(4, "big") + b"key"
        entries.insert(0, key + (1).to_bytes(4, "big") + certificate)
    body = b"\xfe\xed\xfe\xed" + (2).to_bytes(4, "big") + len(entries).to_bytes(4, "big") + b"".join(entries)
    return body + hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def _pkcs12() -> bytes:
    entry = pkcs12.PKCS12Certificate(_CERTIFICATE, b"kafka")
    return pkcs12.serialize_key_and_certificates(None, None, None, [entry], BestAvailableEncryption(_PASSWORD.encode()))


@pytest.mark.parametrize("data", [_jks(), _jks(with_key=True), _pkcs12()], ids=["jks", "jks with a key", "pkcs12"])
def test_the_certificates_of_the_aliases_are_pem(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "store"
    path.write_bytes(data)
    assert read_certificates(path, "jks", _PASSWORD, ["Kafka"]) == _PEM


@pytest.mark.parametrize("data", [_jks(), _pkcs12()], ids=["jks", "pkcs12"])
def test_a_wrong_password_and_an_unknown_alias_are_errors(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "store"
    path.write_bytes(data)
    with pytest.raises(StoreError, match="password"):
        read_certificates(path, "pkcs12", "wrong", ["kafka"])
    with pytest.raises(StoreError, match=r"no certificate 'other'\. It has: kafka"):
        read_certificates(path, "pkcs12", _PASSWORD, ["other"])


def test_a_private_key_is_no_certificate(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.write_bytes(_jks(with_key=True))
    with pytest.raises(StoreError, match="no certificate 'mine'"):
        read_certificates(path, "jks", _PASSWORD, ["mine"])


@given(st.integers(4, len(_jks()) - 1), st.binary(max_size=4))
def test_a_damaged_store_is_an_error_and_nothing_else(cut: int, tail: bytes) -> None:
    try:
        found = truststore._read_jks(_jks()[:cut] + tail, None)
    except StoreError as error:
        found = {}
        assert "damaged" in str(error)  # noqa: PT017
    assert set(found.values()) <= {_DER}


def test_a_file_that_is_no_store_or_too_large_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.write_bytes(b"nothing")
    with pytest.raises(StoreError, match="cannot be opened"):
        read_certificates(path, "pkcs12", _PASSWORD, ["kafka"])
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(StoreError, match="too large"):
        read_certificates(path, "pkcs12", _PASSWORD, ["kafka"])


def test_what_a_client_trusts_becomes_the_clusters_authorities(tmp_path: Path) -> None:
    (tmp_path / "trust.jks").write_bytes(_jks())
    text = edited(BASE, ("    exit: broker\n", "    exit: secure\n"))
    text += (
        "  secure:\n    type: tls\n    kind: client\n    vault: certificates\n    options: {trust: [kafka]}\n    exit: broker\n"
    )
    text += "vaults:\n  certificates:\n    type: filesystem\n    options:\n"
    text += "      trust: {store: trust.jks, type: jks, password: '${{env.PASS}}'}\n"
    plan, _ = planned(text, folder=tmp_path, environ={"PASS": _PASSWORD, "BROKERS": "kafka:9093"})
    (cluster,) = plan.clusters
    assert (cluster.security_protocol, cluster.ssl_ca) == ("SSL", _PEM)
