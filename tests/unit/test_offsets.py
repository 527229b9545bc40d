"""Requests for log offsets are repeated during a fail-over, and no more often than necessary."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.kafka import offsets
from kafkaproxy.worker.kafka.offsets import LogBounds, LogOffsets
from tests.unit.unretrieved import no_unretrieved_error


class Admin:
    """An admin client that gives the answers of a list in turn."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.partitions = 2
        self.refusals: list[Exception] = []
        """What it answers first to a request for the topic's metadata."""
        self.counted = 0

    def list_offsets(self, request: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Future[Any]]:
        answer = self.answers.pop(0)
        return {at: _done(answer if isinstance(answer, Exception) else SimpleNamespace(offset=answer)) for at in request}

    def describe_topics(self, topics: Any, **_: Any) -> dict[str, Future[Any]]:
        self.counted += 1
        return {"topic": _done(self.refusals.pop(0) if self.refusals else SimpleNamespace(partitions=range(self.partitions)))}


def _done(answer: Any) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
    return future


def _error(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


def _asking(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> LogOffsets:
    monkeypatch.setattr(offsets, "_AGAIN_SECONDS", 0.0)
    asked = LogOffsets({})
    monkeypatch.setattr(asked, "_admin", admin)
    return asked


NOT_FOUND = [KafkaError._NOENT, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART]
MOVING = [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.OFFSET_NOT_AVAILABLE]


@pytest.mark.parametrize("code", [*MOVING, *NOT_FOUND, KafkaError._TRANSPORT])
@pytest.mark.parametrize("question", ["ask", "ends", "bounds"])
async def test_transient_errors_of_a_fail_over_are_retried(code: int, question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    per_question = 2 if question == "bounds" else 1
    admin = Admin(*[_error(code)] * (2 * per_question), *[7] * per_question)
    asked = _asking(admin, monkeypatch)
    ends = {0: 7, 1: 7}
    expected = {"ask": ends, "ends": (2, ends), "bounds": LogBounds(2, ends, ends)}
    assert await getattr(asked, question)("topic", 2) == expected[question]
    assert not admin.answers


@pytest.mark.parametrize("code", [*MOVING, *NOT_FOUND])
async def test_an_error_that_persists_is_not_reported_as_a_missing_topic(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "_PATIENCE", 0.0)
    admin = Admin(*[_error(code)] * 100)
    with pytest.raises(TopicUnavailable) as raised:
        await _asking(admin, monkeypatch).ask("topic", 1)
    assert raised.value.reason is Unavailable.UNREACHABLE
    assert admin.answers


REFUSALS = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: Unavailable.UNKNOWN_TOPIC,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Unavailable.NOT_AUTHORIZED,
    KafkaError._TIMED_OUT: Unavailable.UNREACHABLE,
}


@pytest.mark.parametrize("code", NOT_FOUND)
@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("question", ["ask", "ends", "bounds"])
async def test_a_topic_that_is_refused_is_asked_about_once(
    code: int, refusal: int, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = Admin(*[_error(code)] * 2, 7)
    admin.refusals = [_error(refusal)]
    with pytest.raises(TopicUnavailable) as raised:
        await getattr(_asking(admin, monkeypatch), question)("topic", 1)
    assert raised.value.reason is REFUSALS[refusal]
    assert admin.answers
    assert admin.counted == 1


async def test_a_topic_that_was_recreated_with_fewer_partitions_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin(_error(KafkaError._UNKNOWN_PARTITION), 7)
    with pytest.raises(TopicUnavailable) as raised:
        await _asking(admin, monkeypatch).ask("topic", 3)
    assert raised.value.reason is Unavailable.UNKNOWN_TOPIC


async def test_a_topic_that_is_being_created_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin(_error(KafkaError._NOENT), 7)
    admin.refusals = [_error(KafkaError.LEADER_NOT_AVAILABLE)]
    assert await _asking(admin, monkeypatch).ask("topic", 1) == {0: 7}


async def test_a_permanent_error_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin(_error(KafkaError.TOPIC_AUTHORIZATION_FAILED), 7)
    with pytest.raises(TopicUnavailable):
        await _asking(admin, monkeypatch).ask("topic", 1)
    assert admin.answers == [7]


async def test_a_topic_that_the_embedded_broker_does_not_find_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = LogOffsets({}, embedded=True)
    monkeypatch.setattr(asked, "_admin", Admin(_error(KafkaError._NOENT), 7))
    with pytest.raises(TopicUnavailable) as raised:
        await asked.ask("topic", 1)
    assert raised.value.reason is Unavailable.UNKNOWN_TOPIC


async def test_partitions_are_counted_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin(1, 2, 3)
    asked = _asking(admin, monkeypatch)
    assert await asked.ends("topic", 2) == (2, {0: 1, 1: 1})
    admin.partitions = 3
    assert await asked.ends("topic", 2) == (2, {0: 2, 1: 2})
    assert admin.counted == 1
    asked._counted["topic"] = (2, 0.0)  # a second later
    assert await asked.ends("topic", 2) == (3, {0: 3, 1: 3})
    assert admin.counted == 2


async def test_calls_at_the_same_time_share_the_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin(1, 2, 3)
    asked = _asking(admin, monkeypatch)
    first, *others = await asyncio.gather(*(asked.ask("topic", 1) for _ in range(5)))
    assert first == {0: 1}
    assert others == [{0: 2}] * 4
    assert admin.answers == [3]


async def test_an_error_that_comes_after_its_caller_left_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    pending: Future[Any] = Future()
    admin = Admin()
    monkeypatch.setattr(admin, "list_offsets", lambda request, **_: dict.fromkeys(request, pending))
    asked = _asking(admin, monkeypatch)
    async with no_unretrieved_error():
        callers = [asyncio.ensure_future(asked.ask("topic", 1)) for _ in range(2)]  # the second one waits for the next answer
        await asyncio.sleep(0)
        for each in callers:
            each.cancel()
        await asyncio.wait(callers)
        del callers, each  # which refer to what they waited for
        pending.set_exception(_error(KafkaError.TOPIC_AUTHORIZATION_FAILED))
        while asked._running or asked._next:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
