"""Ingest: Kafka → store, in the one process of a host that holds the writer's lock.

Imports ``worker.kafka`` and ``worker.store``.
"""
