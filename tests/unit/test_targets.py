"""Targets of topics, and positions that no record shows."""

from __future__ import annotations

import json

from kafkaproxy.worker.ingest.positions import ReadPositions
from kafkaproxy.worker.ingest.targets import Targets


def test_a_topic_is_ready_when_every_partition_has_reached_its_target() -> None:
    targets = Targets()
    targets.add("t", {0: 0, 1: 5, 2: 7}, {0: 10, 1: 5, 2: 8})
    assert "t" in targets
    assert not targets.reach("t", {0: 9, 1: 100})
    assert not targets.reach("t", {0: 10})
    assert targets.reach("t", {2: 1_000})
    assert "t" not in targets
    assert not targets.reach("t", {2: 2_000}), "it is reached once"


def test_a_topic_that_is_at_its_end_has_to_show_a_sign_of_one_partition() -> None:
    targets = Targets()
    targets.add("t", {0: 3, 1: 4}, {0: 3, 1: 4})
    assert not targets.reach("t", {1: 4})
    assert targets.reach("t", {0: 3})
    targets.add("t", {0: 3}, {0: 4})
    targets.add("t", {1: 5}, {1: 5})
    assert targets.reach("t", {0: 4}), "a partition that was added at its end is not waited for"
    targets.add("t", {0: 3}, {0: 4})
    targets.forget("t")
    assert not targets


def statistics(seconds: float, queued: int, **offsets: int) -> str:
    partitions = {name[1:]: {"next_offset": offset, "fetchq_cnt": queued} for name, offset in offsets.items()}
    return json.dumps({"ts": seconds * 1_000_000, "topics": {"t": {"partitions": partitions}}})


def test_a_position_is_valid_when_the_queued_messages_were_taken() -> None:
    positions = ReadPositions()
    positions.begin(("t", 0), 1.0)
    positions.add_statistics(statistics(2.0, 30, p0=100), consumed=10)
    assert positions.reached(1_000, is_empty=True) == {}, "it may be ahead of the queue: only the next statistics confirm it"
    positions.add_statistics(statistics(3.0, 30, p0=150), consumed=20)
    assert positions.reached(49, is_empty=False) == {}
    assert positions.reached(50, is_empty=False) == {("t", 0): 100}
    assert positions.reached(50, is_empty=False) == {}


def test_an_empty_queue_confirms_at_once() -> None:
    positions = ReadPositions()
    positions.begin(("t", 0), 1.0)
    for second in (2.0, 3.0):
        positions.add_statistics(statistics(second, 30, p0=100), consumed=0)
    assert positions.reached(0, is_empty=True) == {("t", 0): 100}


def test_statistics_of_an_earlier_assignment_are_ignored() -> None:
    positions = ReadPositions()
    positions.begin(("t", 0), 1.0)
    for second in (2.0, 3.0):
        positions.add_statistics(statistics(second, 0, p0=100, p1=7), consumed=0)
    positions.begin(("t", 0), 5.0)  # from its beginning
    assert positions.reached(0, is_empty=True) == {}
    positions.add_statistics(statistics(4.0, 0, p0=100), consumed=0)
    positions.add_statistics(statistics(6.0, 0, p0=3), consumed=0)
    assert positions.reached(0, is_empty=True) == {}
    positions.add_statistics(statistics(7.0, 0, p0=4), consumed=0)
    assert positions.reached(0, is_empty=True) == {("t", 0): 3}
    positions.add_statistics(statistics(8.0, 0, p0=2), consumed=0)  # as after a seek
    assert positions.reached(0, is_empty=True) == {}
