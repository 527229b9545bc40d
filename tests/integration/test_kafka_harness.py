"""The test broker does what the other tests rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException

from tests.kafka import Broker, Cluster


def test_a_record_comes_back_whole(topic: Callable[..., str], kafka: Cluster) -> None:
    name = topic(partitions=3)
    headers = [("a", "1"), ("a", "2"), ("empty", ""), ("null", None)]
    where = kafka.produce(name, "vålue", key="k", headers=headers, partition=2)
    assert where == (2, 0)
    (record,) = kafka.consume(name)
    assert (record.partition, record.offset, record.key, record.value) == (2, 0, "k", "vålue")
    assert record.headers == headers


def test_a_null_value_is_not_an_empty_one(topic: Callable[..., str], kafka: Cluster) -> None:
    name = topic()
    kafka.produce(name, None, key="gone")
    kafka.produce(name, "", key="empty")
    assert [(record.key, record.value) for record in kafka.consume(name)] == [("gone", None), ("empty", "")]


def test_both_ways_of_reading_agree(topic: Callable[..., str], kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    name = topic(partitions=2)
    kafka.produce_many(name, [{"value": str(n), "key": str(n), "headers": [("n", None)]} for n in range(100)])
    with_kcat = kafka.consume(name)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert kafka.consume(name) == with_kcat
    assert len(with_kcat) == 100


def test_unknown_topics_are_not_created(kafka: Cluster) -> None:
    with pytest.raises((RuntimeError, KafkaException, KeyError)):
        kafka.consume("never-created")
    assert "never-created" not in kafka.admin.list_topics(timeout=10).topics


def test_delete_records_moves_the_log_start(topic: Callable[..., str], kafka: Cluster) -> None:
    name = topic()
    kafka.produce_many(name, [{"value": str(n)} for n in range(10)])
    kafka.delete_records(name, {0: 7})
    assert [record.offset for record in kafka.consume(name)] == [7, 8, 9]


def test_retention_deletes_within_seconds(topic: Callable[..., str], kafka: Cluster) -> None:
    name = topic(config={"retention.ms": "1000", "segment.ms": "1000"})
    kafka.produce(name, "old", timestamp=int(time.time() * 1000) - 60_000)
    _wait_until(lambda: kafka.consume(name) == [])


def test_compaction_runs_within_seconds(topic: Callable[..., str], kafka: Cluster) -> None:
    config = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    name = topic(config=config)

    def compacted() -> bool:
        kafka.produce(name, "new", key="k")
        time.sleep(0.2)
        return kafka.consume(name)[0].offset > 0

    _wait_until(compacted)


def test_a_killed_broker_comes_back_with_its_records(own_kafka: Broker) -> None:
    own_kafka.create_topic("kept")
    own_kafka.produce("kept", "value")
    own_kafka.kill()
    with pytest.raises((RuntimeError, KafkaException)):
        own_kafka.consume("kept")
    own_kafka.start()
    assert [record.value for record in own_kafka.consume("kept")] == ["value"]
    own_kafka.restart()
    assert [record.value for record in own_kafka.consume("kept")] == ["value"]


@pytest.mark.parametrize(
    ("listener", "mechanism"),
    [
        ("SASL_PLAINTEXT", "PLAIN"),
        ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
        ("SASL_SSL", "SCRAM-SHA-512"),
        ("SSL", None),
        ("MTLS", None),
    ],
)
def test_every_listener_serves(secure_kafka: Broker, listener: str, mechanism: str | None) -> None:
    client = Cluster(secure_kafka.listeners[listener], **_options(secure_kafka, listener, mechanism))
    assert client.admin.list_topics(timeout=10).brokers


def test_a_wrong_password_is_refused(secure_kafka: Broker) -> None:
    options = {**_options(secure_kafka, "SASL_PLAINTEXT", "PLAIN"), "sasl.password": "wrong"}
    client = Cluster(secure_kafka.listeners["SASL_PLAINTEXT"], **options, log_level=0)
    with pytest.raises(KafkaException):
        client.admin.list_topics(timeout=3)


def test_the_broker_dies_with_a_test_run_that_is_killed(tmp_path: Path, kafka: Cluster) -> None:
    code = (
        "import sys, time, pathlib; from tests.kafka import Broker; b = Broker(pathlib.Path(sys.argv[1])); b.start();"
        "print(b.pid, flush=True); time.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    broker = psutil.Process(int(run.stdout.readline()))
    assert "kafka.Kafka" in broker.cmdline()
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    _wait_until(lambda: _has_ended(broker))


def _has_ended(process: psutil.Process) -> bool:
    """Return True if it has; the process that adopted it may take a while to collect it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _options(broker: Broker, listener: str, mechanism: str | None) -> dict[str, str]:
    assert broker.certificates is not None
    options = {"security.protocol": "SSL" if listener == "MTLS" else listener}
    if listener != "SASL_PLAINTEXT":
        options["ssl.ca.location"] = str(broker.certificates.ca)
    if listener == "MTLS":
        options["ssl.certificate.location"] = str(broker.certificates.client_certificate)
        options["ssl.key.location"] = str(broker.certificates.client_key)
    if mechanism:
        options |= {"sasl.mechanism": mechanism, "sasl.username": broker.user, "sasl.password": broker.password}
    return options


def _wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
