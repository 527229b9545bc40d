"""The log rate limit: a broker that is down is tried many times a second and logged once in 30 seconds."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from kafkaproxy.worker.kafka.log_rate_limit import LogRateLimit, librdkafka_log


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: moment[0])
    return moment


def passed(filter_: LogRateLimit, message: str, *args: Any) -> str | None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, message, args, None)
    return record.getMessage() if filter_.filter(record) else None


def test_a_message_is_logged_once_in_30_seconds_with_the_number_of_suppressed_ones(now: list[float]) -> None:
    filter_ = LogRateLimit()
    assert passed(filter_, "down %s", "a") == "down a"
    for _ in range(40):
        now[0] += 0.5
        assert passed(filter_, "down %s", "a") is None
    assert passed(filter_, "down %s", "b") == "down b"
    now[0] += 15
    assert passed(filter_, "down %s", "a") == "down a (and 40 more times)"
    assert passed(filter_, "down %s", "a") is None


def test_messages_that_differ_in_a_duration_are_equal(now: list[float]) -> None:
    filter_ = LogRateLimit()
    assert passed(filter_, "refused (after 0ms in state CONNECT)") is not None
    assert passed(filter_, "refused (after 13ms in state CONNECT)") is None
    assert passed(filter_, "refused (after 13ms in state UP)") is not None


def test_it_remembers_a_bounded_number_of_messages(now: list[float]) -> None:
    filter_ = LogRateLimit()
    for number in range(3000):
        assert passed(filter_, "message %s", number) is not None
    assert len(filter_._seen) <= 1000


def test_librdkafkas_log_goes_through_it() -> None:
    assert any(isinstance(each, LogRateLimit) for each in librdkafka_log.filters)
