"""The topics of the sample gateways, and where their broker is."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from django.conf import settings

from kafkaproxy.models import Cluster
from kafkaproxy.worker.kafka.mock_cluster import embedded_servers
from kafkaproxy.worker.types import EMBEDDED
from project.kafka import partitions_of

__all__ = ["COMPACTED", "TOPICS", "bootstrap_servers", "create_topics", "is_embedded", "sample_clusters"]

TOPICS: Final = ("items", "events", "sync-requests", "sync-replies", "async-requests", "async-replies")
COMPACTED: Final = frozenset({"items"})
_REFERENCE: Final = "${{env.KAFKA_BOOTSTRAP_SERVERS}}"


def is_embedded() -> bool:
    """Return True if the demo runs on the broker inside the server process."""
    return os.environ["KAFKA_BOOTSTRAP_SERVERS"] == EMBEDDED


def bootstrap_servers() -> str:
    """Return the broker's address. The embedded broker is started in this process, unless another one runs it."""
    if not is_embedded():
        return os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    return embedded_servers(Path(settings.KAFKAPROXY["STORE_DIR"]) / sample_clusters()[0].name)


def sample_clusters() -> list[Cluster]:
    """Return the clusters that the sample gateways came with."""
    return list(Cluster.objects.filter(bootstrap_servers=_REFERENCE).order_by("pk"))


def create_topics(bootstrap: str) -> None:
    """Create the topics; those that exist stay as they are."""
    if is_embedded():
        _ask_for_topics(bootstrap)
        return
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(name, num_partitions=3, replication_factor=-1, config=_config(name)) for name in TOPICS]
    for future in admin.create_topics(wanted, request_timeout=20).values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _ask_for_topics(bootstrap: str) -> None:
    """The embedded broker cannot be told to create a topic, but makes what a client asks for."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "allow.auto.create.topics": True})
    try:
        while len(partitions_of(consumer, TOPICS)) < len(TOPICS):
            time.sleep(0.05)
    finally:
        consumer.close()


def _config(topic: str) -> dict[str, str]:
    return {"cleanup.policy": "compact"} if topic in COMPACTED else {}
