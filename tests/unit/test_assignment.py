"""Partitions whose position is outside of the log."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError

from kafkaproxy.worker.ingest.assignment import Assignment

OUT_OF_RANGE = KafkaError._AUTO_OFFSET_RESET


@pytest.fixture
def reading() -> Assignment:
    reader: Any = Mock()
    made = Assignment("default")
    made.add(reader, "t", {0: 10, 1: 10})
    made.handle_error("t", 0, KafkaError(OUT_OF_RANGE))
    return made


def test_a_log_was_truncated_if_our_position_is_after_its_beginning_and_out_of_range(
    reading: Assignment,
) -> None:
    assert reading.is_truncated("t", {0: 10, 1: 10}, {0: 0, 1: 0}, time.monotonic())
    assert not reading.is_truncated("another", {0: 10, 1: 10}, {0: 0, 1: 0}, time.monotonic())


def test_a_position_before_the_log_start_is_retention_and_not_truncation(reading: Assignment) -> None:
    assert not reading.is_truncated("t", {0: 10, 1: 10}, {0: 11, 1: 0}, time.monotonic())
    assert reading.missing("t", {0: 11, 1: 10}, time.monotonic()) == {0: 11}
    reading.add(Mock(), "t", {0: 11})
    assert not reading.is_truncated("t", {0: 11, 1: 10}, {0: 11, 1: 0}, time.monotonic())


def test_offsets_from_before_the_error_prove_nothing_and_are_not_used(reading: Assignment) -> None:
    before = time.monotonic() - 1
    assert not reading.is_truncated("t", {0: 10, 1: 10}, {0: 0, 1: 0}, before)
    assert reading.missing("t", {0: 10, 1: 10}, before) == {}
