"""The broker's configuration: one node, small, and quick to do what other brokers do once in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.kafka.certificates import Certificates

__all__ = ["PASSWORD", "USER", "broker_properties", "scram_options"]

USER: Final = "alice"
PASSWORD: Final = "alice-secret"

_FAST: Final = {
    "auto.create.topics.enable": "false",
    "background.threads": "2",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.backoff.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "log.segment.delete.delay.ms": "100",
    "message.max.bytes": str(12 * 1024 * 1024),
    "num.io.threads": "4",
    "num.network.threads": "2",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
}


_BREAKABLE: Final = {"broker.heartbeat.interval.ms": "300", "broker.session.timeout.ms": "1000"}
"""A broker that comes back waits for the session of its former self to end. A busy one had better have a longer session."""


def broker_properties(
    data: Path, listeners: Mapping[str, str], certificates: Certificates | None, *, breakable: bool, proxy: str = ""
) -> str:
    """Return a ``server.properties``; ``listeners`` are name → address, CONTROLLER among them.

    ``proxy`` is where clients of the listener PROXIED are sent.
    """
    advertised = {name: proxy if name == "PROXIED" else at for name, at in listeners.items() if name != "CONTROLLER"}
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{listeners['CONTROLLER']}",
        "listeners": _addresses(listeners),
        "advertised.listeners": _addresses(advertised),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": ",".join(f"{name}:{_protocol(name)}" for name in listeners),
        "log.dirs": str(data),
        **_FAST,
        **(_BREAKABLE if breakable else {}),
        **(_secure(listeners, certificates) if certificates else {}),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def scram_options() -> list[str]:
    """Return the options of ``StorageTool format`` that create the user."""
    user = f"[name={USER},password={PASSWORD}]"
    return ["--add-scram", f"SCRAM-SHA-256={user}", "--add-scram", f"SCRAM-SHA-512={user}"]


def _addresses(listeners: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in listeners.items())


def _protocol(listener: str) -> str:
    return {"CONTROLLER": "PLAINTEXT", "MTLS": "SSL", "PROXIED": "PLAINTEXT"}.get(listener, listener)


def _secure(listeners: Mapping[str, str], certificates: Certificates) -> dict[str, str]:
    values = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.server),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.ca),
        "listener.name.mtls.ssl.client.auth": "required",
        # Clients of the plain listener may do anything, others what no ACL denies them.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
    }
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    for listener in (name.lower() for name in listeners if name.startswith("SASL")):
        prefix = f"listener.name.{listener}"
        values[f"{prefix}.plain.sasl.jaas.config"] = f'{plain} user_{USER}="{PASSWORD}";'
        values[f"{prefix}.scram-sha-256.sasl.jaas.config"] = scram
        values[f"{prefix}.scram-sha-512.sasl.jaas.config"] = scram
    return values
