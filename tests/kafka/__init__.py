"""A real Apache Kafka for tests, the demo and developers: one KRaft node on free loopback ports."""

from __future__ import annotations

from tests.kafka.broker import Broker
from tests.kafka.client import Cluster, Consumed
from tests.kafka.jars import KAFKA_VERSION, Unavailable

__all__ = ["KAFKA_VERSION", "Broker", "Cluster", "Consumed", "Unavailable"]
