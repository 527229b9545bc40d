"""Questions about where logs end are asked again while leaders change, and no more often than they have to be."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kafkaproxy.worker import offsets
from kafkaproxy.worker.errors import TopicUnavailable, Unavailable
from kafkaproxy.worker.offsets import LogOffsets


class Admin:
    """Answers what it is given, in turn; of errors it has only their codes."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.partitions = 2
        self.counted = 0

    def list_offsets(self, request: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Future[Any]]:
        answer = self.answers.pop(0)
        return {at: _done(answer if isinstance(answer, Exception) else SimpleNamespace(offset=answer)) for at in request}

    def describe_topics(self, topics: Any, **_: Any) -> dict[str, Future[Any]]:
        self.counted += 1
        return {"topic": _done(SimpleNamespace(partitions=range(self.partitions)))}


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


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE])
async def test_a_leader_that_has_moved_is_looked_for(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin(_error(code), _error(code), 7)
    assert await _asking(admin, monkeypatch).ask("topic", 2) == {0: 7, 1: 7}
    assert not admin.answers


async def test_the_search_for_a_leader_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "_PATIENCE", 0.0)
    admin = Admin(*[_error(KafkaError.NOT_LEADER_FOR_PARTITION)] * 100)
    with pytest.raises(TopicUnavailable) as raised:
        await _asking(admin, monkeypatch).ask("topic", 1)
    assert raised.value.reason is Unavailable.UNREACHABLE
    assert admin.answers


async def test_what_will_not_change_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin(_error(KafkaError.UNKNOWN_TOPIC_OR_PART), 7)
    with pytest.raises(TopicUnavailable) as raised:
        await _asking(admin, monkeypatch).ask("topic", 1)
    assert raised.value.reason is Unavailable.UNKNOWN_TOPIC
    assert admin.answers == [7]


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


async def test_who_asks_at_the_same_time_shares_the_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin(1, 2, 3)
    asked = _asking(admin, monkeypatch)
    first, *others = await asyncio.gather(*(asked.ask("topic", 1) for _ in range(5)))
    assert first == {0: 1}
    assert others == [{0: 2}] * 4
    assert admin.answers == [3]
