"""A backfill ends, whatever retention does to the part of the log that it reads."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from kafkaproxy.worker.ingest.assignment import Assignment
from kafkaproxy.worker.ingest.backfill import Backfills


def test_a_topic_without_older_records_needs_no_backfill() -> None:
    reader: Any = Mock()
    backfills = Backfills()
    assert not backfills.begin(reader, "t", {0: 7, 1: 0}, {0: 7, 1: 0})
    assert "t" not in backfills
    assert not reader.assign.called


def test_a_backfill_is_complete_when_its_partitions_are_read() -> None:
    backfills = Backfills()
    reader: Any = Mock()
    assert backfills.begin(reader, "t", {0: 0, 1: 5}, {0: 10, 1: 5})
    reader.assign.assert_called_once_with("t", {0: 0})
    assert not backfills.reach("t", {0: 9})
    assert backfills.reach("t", {0: 10})


def test_a_backfill_is_complete_when_retention_has_passed_what_is_left() -> None:
    backfills = Backfills()
    reader: Any = Mock()
    assert backfills.begin(reader, "t", {0: 0, 1: 0}, {0: 10, 1: 10})
    assert not backfills.reassign("t", 0, 12)
    assert not backfills.reassign("t", 1, 4)
    assert backfills.reach("t", {1: 10})
    assert not backfills.reassign("unknown", 0, 12)


def test_a_partition_that_retention_has_passed_continues_at_the_log_start_and_is_not_taken_for_truncated() -> None:
    reader: Any = Mock()
    assignment = Assignment("default")
    assignment.add(reader, "t", {0: 3000})
    assignment.skip_to("t", 0, 6000)
    reader.unassign.assert_called_once_with("t", {0: 6000})
    assert reader.assign.call_args.args == ("t", {0: 6000})
    assert not assignment.is_truncated("t", {0: 6000}, {0: 6000}, 1e12)


def test_a_topic_that_may_not_be_read_is_asked_for_again() -> None:
    reader: Any = Mock()
    assignment = Assignment("default")
    assignment.add(reader, "t", {0: 3})
    assignment.retry_denied("t", {0: 3})
    assert reader.assign.call_count == 1
    assignment._denied.add("t")
    assignment.retry_denied("t", {0: 5})
    assert reader.assign.call_args.args == ("t", {0: 5})
