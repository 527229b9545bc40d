"""TLS and SASL reach librdkafka, as values and through the models; what is refused says so and tells no secret."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from kafkaproxy.models import Cluster as ClusterRow
from kafkaproxy.models import Filter
from kafkaproxy.routing.clusters import client_options
from kafkaproxy.routing.compile import load_configuration
from kafkaproxy.routing.table import Configuration
from kafkaproxy.specs.types import ClusterSpec
from tests.faults.asking import PATIENCE, items, unique
from tests.kafka import Broker
from tests.kafka.certificates import Certificates, make_certificates
from tests.support.proxy import Proxy, configuration, produce
from tests.support.proxy import gateway as values
from tests.unit.build import add_route, gateway

Start = Callable[[Configuration], Proxy]
Permit = Callable[..., None]
WAYS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512 over TLS", "TLS", "mutual TLS"]


@pytest.fixture(autouse=True)
def _short_times(settings: Any) -> None:
    settings.KAFKAPROXY = {
        **settings.KAFKAPROXY,
        "READY_TIMEOUT_SECONDS": 3,
        "PRODUCE_TIMEOUT_SECONDS": 3,
        "METADATA_SECONDS": 0.3,
    }


@pytest.fixture
def topic(secure_kafka: Broker) -> Iterator[str]:
    name = secure_kafka.create_topic(unique("secure"))
    yield name
    secure_kafka.delete_topics([name])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Proxy] = []

    def start(config: Configuration) -> Proxy:
        running.append(Proxy(tmp_path / str(len(running)), config))
        return running[-1]

    yield start
    for proxy in running:
        proxy.close()


@pytest.fixture
def certificates(secure_kafka: Broker) -> Certificates:
    assert secure_kafka.certificates is not None
    return secure_kafka.certificates


def ask(proxy: Proxy, method: str, path: str, **options: Any) -> httpx.Response:
    return asyncio.run(_ask(proxy, method, path, **options))


async def _ask(proxy: Proxy, method: str, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=proxy.app), base_url="https://x", timeout=PATIENCE
    ) as client:
        return await client.request(method, path, **options)


def assert_works(proxy: Proxy, broker: Broker, topic: str) -> None:
    """Write by way of the proxy, look with a client of the plain listener, and read by way of the proxy."""
    assert ask(proxy, "PUT", "/items/a", content=b"1").status_code == 204
    assert [(record.key, record.value) for record in broker.consume(topic)] == [("a", "1")]
    response = ask(proxy, "GET", "/items/a", headers={"prefer": "wait=20"})
    assert (response.status_code, response.content) == (200, b"1")


# librdkafka's own options


def options(way: str, broker: Broker, certificates: Certificates) -> tuple[str, dict[str, Any]]:
    """Return the listener and librdkafka's options for it."""
    tls = {"ssl.ca.location": str(certificates.ca)}
    user = {"sasl.username": broker.user, "sasl.password": broker.password}
    match way:
        case "PLAIN":
            return "SASL_PLAINTEXT", {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", **user}
        case "SCRAM-SHA-256":
            return "SASL_PLAINTEXT", {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256", **user}
        case "SCRAM-SHA-512 over TLS":
            return "SASL_SSL", {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", **user, **tls}
        case "TLS":
            return "SSL", {"security.protocol": "SSL", **tls}
        case _:
            files = {
                "ssl.certificate.location": str(certificates.client_certificate),
                "ssl.key.location": str(certificates.client_key),
            }
            return "MTLS", {"security.protocol": "SSL", **tls, **files}


@pytest.mark.parametrize("way", WAYS)
def test_librdkafkas_options_reach_all_of_its_clients(
    way: str, secure_kafka: Broker, certificates: Certificates, topic: str, start: Start
) -> None:
    listener, client = options(way, secure_kafka, certificates)
    assert_works(start(configuration(secure_kafka.listeners[listener], items(topic), **client)), secure_kafka, topic)


# The models


def row(way: str, broker: Broker, certificates: Certificates) -> dict[str, Any]:
    """Return the fields of the cluster's row: PEM texts, paths, and secrets from the environment, by turns."""
    user = {"sasl_username": broker.user, "sasl_password": "${{env.TEST_KAFKA_PASSWORD}}"}
    match way:
        case "PLAIN":
            fields = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", **user}
            return {"bootstrap_servers": broker.listeners["SASL_PLAINTEXT"], **fields}
        case "SCRAM-SHA-256":
            fields = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-256", **user}
            return {"bootstrap_servers": broker.listeners["SASL_PLAINTEXT"], **fields}
        case "SCRAM-SHA-512 over TLS":
            fields = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", **user}
            return {"bootstrap_servers": broker.listeners["SASL_SSL"], "ssl_ca": str(certificates.ca), **fields}
        case "TLS":
            servers = f" {broker.listeners['SSL']} , "
            return {"bootstrap_servers": servers, "security_protocol": "SSL", "ssl_ca": certificates.ca.read_text()}
        case _:
            key = load_pem_private_key(certificates.client_key.read_bytes(), None)
            sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"key-secret"))
            return {
                "bootstrap_servers": "${{env.TEST_KAFKA_SERVERS}}",
                "security_protocol": "SSL",
                "ssl_ca": certificates.ca.read_text(),
                "ssl_certificate": certificates.client_certificate.read_text(),
                "ssl_key": sealed.decode(),
                "ssl_key_password": "${{env.TEST_KEY_PASSWORD}}",
            }


def compiled(fields: Mapping[str, Any], topic: str) -> Configuration:
    """Save a cluster with two routes, validated as the admin does, and compile."""
    cluster = ClusterRow(name="default", **fields)
    cluster.full_clean()
    cluster.save()
    entry = gateway(cluster=cluster)
    add_route(entry, "put", "/items/{id}", method="PUT", capability="produce", topic=topic, key="${params.id}")
    route = add_route(entry, "get", "/items/{id}", topic=topic)
    Filter.objects.create(route=route, key="${params.id}")
    return load_configuration()


@pytest.mark.django_db
@pytest.mark.parametrize("way", WAYS)
def test_a_cluster_of_the_admin_reaches_the_broker(
    way: str,
    secure_kafka: Broker,
    certificates: Certificates,
    topic: str,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEST_KAFKA_PASSWORD", secure_kafka.password)
    monkeypatch.setenv("TEST_KAFKA_SERVERS", secure_kafka.listeners["MTLS"])
    monkeypatch.setenv("TEST_KEY_PASSWORD", "key-secret")
    config = compiled(row(way, secure_kafka, certificates), topic)
    assert config.clusters["default"].error == ""
    assert_works(start(config), secure_kafka, topic)
    for secret in (secure_kafka.password, "key-secret", "PRIVATE KEY"):
        assert secret not in caplog.text
        assert secret not in repr(config)


def test_the_hosts_name_is_verified_unless_the_row_says_otherwise() -> None:
    fields = {"name": "c", "bootstrap_servers": "b:1", "security_protocol": "SSL"}
    assert "ssl.endpoint.identification.algorithm" not in client_options(ClusterSpec(**fields), str)
    unverified = client_options(ClusterSpec(**fields, ssl_verify_hostname=False), str)
    assert unverified["ssl.endpoint.identification.algorithm"] == "none"


# What is refused


def refused(way: str, broker: Broker, certificates: Certificates, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return a listener and options that it does not let in."""
    match way:
        case "a wrong password":
            listener, client = options("SCRAM-SHA-256", broker, certificates)
            return listener, {**client, "sasl.password": "wrong-secret"}
        case "an authority that did not sign":
            return "SSL", {"security.protocol": "SSL", "ssl.ca.location": str(make_certificates(folder / "other").ca)}
        case "no client certificate":
            return "MTLS", {"security.protocol": "SSL", "ssl.ca.location": str(certificates.ca)}
        case _:
            return "SSL", {}


@pytest.mark.parametrize(
    "way",
    [
        "a wrong password",
        "an authority that did not sign",
        "no client certificate",
        "plain text to a TLS port",
    ],
)
def test_a_broker_that_does_not_let_us_in_is_a_5xx_without_details(
    way: str,
    secure_kafka: Broker,
    certificates: Certificates,
    topic: str,
    start: Start,
    tmp_path: Path,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "READY_TIMEOUT_SECONDS": 1.5, "PRODUCE_TIMEOUT_SECONDS": 1}
    listener, client = refused(way, secure_kafka, certificates, tmp_path)
    proxy = start(configuration(secure_kafka.listeners[listener], items(topic), **client))
    written, read = ask(proxy, "PUT", "/items/a", content=b"1"), ask(proxy, "GET", "/items/a")
    assert written.status_code in (502, 503), written.text
    assert read.status_code in (502, 503), read.text
    for response in (written, read):
        assert response.headers["content-type"] == "application/problem+json"
        assert ("retry-after" in response.headers) == (response.status_code == 503)
        for detail in ("wrong-secret", "alice", "127.0.0.1", "certificate"):
            assert detail not in response.text
    assert "wrong-secret" not in caplog.text
    assert secure_kafka.consume(topic) == []


def test_an_unknown_user_is_502(
    secure_kafka: Broker, certificates: Certificates, topic: str, start: Start, settings: Any
) -> None:
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "READY_TIMEOUT_SECONDS": 30}
    listener, client = options("PLAIN", secure_kafka, certificates)
    proxy = start(configuration(secure_kafka.listeners[listener], items(topic), **{**client, "sasl.username": "mallory"}))
    for method, code in (("PUT", "produce-not-authorized"), ("GET", "topic-not-authorized")):
        response = ask(proxy, method, "/items/a")
        assert (response.status_code, response.json()["type"]) == (502, f"urn:kafkaproxy:problem:{code}")


@pytest.fixture
def permit(secure_kafka: Broker, topic: str) -> Iterator[Permit]:
    """Permit the user these operations on the topic, and no others."""

    def permit(*operations: AclOperation) -> None:
        place = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL)
        bindings = [AclBinding(*place, f"User:{secure_kafka.user}", "*", each, AclPermissionType.ALLOW) for each in operations]
        bindings.append(AclBinding(*place, "User:somebody", "*", AclOperation.ALL, AclPermissionType.ALLOW))
        for future in secure_kafka.admin.create_acls(bindings).values():
            future.result(20)

    yield permit
    every = AclBindingFilter(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    for future in secure_kafka.admin.delete_acls([every]).values():
        future.result(20)


def test_a_topic_that_may_not_be_written_is_502(
    secure_kafka: Broker, certificates: Certificates, topic: str, start: Start, permit: Permit
) -> None:
    permit(AclOperation.DESCRIBE, AclOperation.READ)
    secure_kafka.produce(topic, "1", key="a")
    listener, client = options("PLAIN", secure_kafka, certificates)
    proxy = start(configuration(secure_kafka.listeners[listener], items(topic), **client))
    response = ask(proxy, "PUT", "/items/a", content=b"2")
    assert response.status_code == 502, response.text
    assert response.json()["type"] == "urn:kafkaproxy:problem:produce-not-authorized"
    assert ask(proxy, "GET", "/items/a").content == b"1"
    permit(AclOperation.WRITE)
    until(lambda: ask(proxy, "PUT", "/items/a", content=b"3").status_code == 204)


def test_a_topic_that_may_not_be_described_is_502(
    secure_kafka: Broker, certificates: Certificates, topic: str, start: Start, permit: Permit
) -> None:
    permit()
    listener, client = options("PLAIN", secure_kafka, certificates)
    proxy = start(configuration(secure_kafka.listeners[listener], items(topic), **client))
    response = ask(proxy, "GET", "/items/a")
    assert response.status_code == 502, response.text
    assert response.json()["type"] == "urn:kafkaproxy:problem:topic-not-authorized"
    assert ask(proxy, "PUT", "/items/a", content=b"2").status_code == 502


def test_a_topic_that_may_not_be_read_is_502_until_it_may(
    secure_kafka: Broker, certificates: Certificates, topic: str, start: Start, permit: Permit
) -> None:
    permit(AclOperation.DESCRIBE)
    secure_kafka.produce(topic, "1", key="a")
    listener, client = options("PLAIN", secure_kafka, certificates)
    proxy = start(configuration(secure_kafka.listeners[listener], items(topic), **client))
    response = ask(proxy, "GET", "/items/a")
    assert response.status_code == 502, response.text
    assert response.json()["type"] == "urn:kafkaproxy:problem:topic-not-authorized"
    permit(AclOperation.READ)
    until(lambda: ask(proxy, "GET", "/items/a").content == b"1")


@pytest.fixture
def other_topic(secure_kafka: Broker) -> Iterator[str]:
    name = secure_kafka.create_topic(unique("open"))
    yield name
    secure_kafka.delete_topics([name])


@pytest.mark.parametrize("prefer", ["wait=20", "respond-async"])
@pytest.mark.parametrize(
    ("protects", "operations", "code"),
    [
        ("requests", (AclOperation.DESCRIBE, AclOperation.READ), "produce-not-authorized"),
        ("replies", (AclOperation.DESCRIBE, AclOperation.WRITE), "topic-not-authorized"),
    ],
)
def test_a_route_with_a_reply_is_502_where_one_of_its_topics_is_not_permitted(
    secure_kafka: Broker,
    certificates: Certificates,
    topic: str,
    other_topic: str,
    start: Start,
    permit: Permit,
    protects: str,
    operations: tuple[AclOperation, ...],
    code: str,
    prefer: str,
) -> None:
    permit(*operations)
    requests, replies = (topic, other_topic) if protects == "requests" else (other_topic, topic)
    listener, client = options("PLAIN", secure_kafka, certificates)
    route = produce(
        "/items/{id}", topic=requests, reply_to=replies, async_={"location": "/items/${params.id};${correlationId}"}
    )
    proxy = start(configuration(secure_kafka.listeners[listener], values(route), **client))
    response = ask(proxy, "PUT", "/items/a", content=b"1", headers={"prefer": prefer})
    assert (response.status_code, response.json()["type"]) == (502, f"urn:kafkaproxy:problem:{code}")
    assert secure_kafka.consume(requests) == []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
