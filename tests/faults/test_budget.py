"""The byte budget of streamed topics: the store lets go of the oldest, and a stream from the earliest misses nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.types import ClusterConfig, Record, Role, TopicSettings
from kafkaproxy.worker.worker import Worker
from tests.conftest import TopicFactory
from tests.kafka import Cluster

ROLES = {
    "streamed": frozenset({Role.STREAM}),
    "fetched too": frozenset({Role.STREAM, Role.FETCH}),
}


def started(kafka: Cluster, topic: str, folder: Path, roles: frozenset[Role], budget: int) -> Worker:
    settings = TopicSettings(roles=roles, store_bytes=budget)
    worker = Worker(Limits(store_dir=folder))
    worker.configure({"c": ClusterConfig(name="c", client={"bootstrap.servers": kafka.bootstrap}, topics={topic: settings})})
    return worker


@pytest.mark.parametrize("kind", ROLES)
async def test_the_oldest_records_leave_and_are_read_from_kafka(
    kind: str, kafka: Cluster, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic(partitions=2, config={"cleanup.policy": "compact"})
    kafka.produce_many(name, [{"key": f"k{n % 50}", "value": b"%5d" % n + b"x" * 1000} for n in range(2000)])
    worker = started(kafka, name, tmp_path, ROLES[kind], 300_000)
    try:
        cluster = worker.cluster("c")
        state = await cluster.read_to_end(name, Role.STREAM, 30)
        for _ in range(200):
            progress = cluster.store.progress(state.key)
            if all(each.complete_from > 0 for each in progress.values()):
                break
            await asyncio.sleep(0.1)
        kept = [cluster.store.read(state.key, p, 0, each.next_offset, 10**6, 10**9)[0] for p, each in progress.items()]
        assert sum(len(records) for records in kept) < 600
        if Role.FETCH in state.roles:
            newest = [cluster.store.latest(state.key, b"k%d" % n) for n in range(50)]
            assert sorted(int((each.value or b"")[:5]) for each in newest if each) == list(range(1950, 2000))
        seen: list[Record] = []
        for partition, each in progress.items():
            reached = 0
            while reached < each.complete_from:
                batch = await cluster.history.read(name, partition, reached, each.complete_from)
                assert batch is not None
                records, reached = batch
                seen += records
            seen += cluster.store.read(state.key, partition, each.complete_from, each.next_offset, 10**6, 10**9)[0]
        assert sorted(int((record.value or b"")[:5]) for record in seen) == list(range(2000))
    finally:
        worker.close()


async def test_a_topic_whose_every_record_counts_keeps_them_all(kafka: Cluster, topic: TopicFactory, tmp_path: Path) -> None:
    name = topic()
    kafka.produce_many(name, [{"value": b"x" * 1000} for _ in range(500)])
    worker = started(kafka, name, tmp_path, frozenset({Role.STREAM, Role.FETCH}), 10_000)
    try:
        cluster = worker.cluster("c")
        state = await cluster.read_to_end(name, Role.STREAM, 30)
        await asyncio.sleep(2.5)  # more than two of the writer's looks at its budgets
        records, _ = cluster.store.read(state.key, 0, 0, 500, 10**6, 10**9)
        assert len(records) == 500
    finally:
        worker.close()
