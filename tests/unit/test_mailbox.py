"""The time that a request waits for its acknowledgement, and reports of its record after that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kafkaproxy.worker.errors import ProduceError, ProduceFailure
from kafkaproxy.worker.kafka import mailbox as module
from kafkaproxy.worker.kafka.mailbox import Mailbox, NotInTime, Outcome, OverdueRecords, PendingRecord, unacknowledged_record
from kafkaproxy.worker.types import Delivery

DELIVERY = Delivery("t", 0, 7)
REFUSED = ProduceError(ProduceFailure.REJECTED, "")


class Desk:
    """A mailbox whose records time out after ``patience`` seconds."""

    def __init__(self, patience: float) -> None:
        self.overdue = OverdueRecords()
        self.expired: list[PendingRecord] = []
        self.mailbox = Mailbox(asyncio.get_running_loop(), patience, self.deliver, self.expire, self.overdue)

    def deliver(self, future: asyncio.Future[Delivery], outcome: Outcome) -> None:
        if isinstance(outcome, Delivery):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def expire(self, due: Sequence[PendingRecord]) -> None:
        self.expired += due
        for sent in due:
            if sent.future is not None and not sent.future.done():
                sent.future.set_exception(NotInTime(sent))
            sent.future = None

    def send(self, *, defer_ack: bool = False, size: int = 1) -> tuple[PendingRecord, asyncio.Future[Delivery]]:
        sent = self.mailbox.begin("t", size, None)
        future = sent.future
        assert future is not None
        self.mailbox.add(sent, defer_ack=defer_ack)
        return sent, future


async def too_late(future: asyncio.Future[Delivery]) -> None:
    with pytest.raises(ProduceError) as caught:
        await asyncio.wait_for(future, 20)
    assert caught.value.reason is ProduceFailure.TIMED_OUT


async def test_a_request_times_out_and_its_record_is_overdue_until_it_is_reported() -> None:
    desk = Desk(0.05)
    (sent, future), (_, other) = desk.send(), desk.send()
    await too_late(future)
    await too_late(other)
    assert unacknowledged_record(future) is sent
    assert sent.is_overdue
    desk.mailbox.post(sent, DELIVERY)
    assert not sent.is_overdue
    assert await desk.mailbox.wait_again(sent, defer_ack=False) == DELIVERY


async def test_a_deferred_acknowledgement_that_was_reported_in_time_does_not_time_out() -> None:
    desk = Desk(0.05)
    sent, future = desk.send(defer_ack=True)
    desk.mailbox.post(sent, DELIVERY)
    assert await asyncio.wait_for(future, 20) == DELIVERY
    assert desk.expired == []


async def test_waiting_again_has_the_same_timeout_as_the_first_wait() -> None:
    desk = Desk(0.05)
    sent, future = desk.send()
    await too_late(future)
    again = desk.mailbox.wait_again(sent, defer_ack=False)
    assert not sent.is_overdue
    await too_late(again)
    third = desk.mailbox.wait_again(sent, defer_ack=False)
    desk.mailbox.post(sent, REFUSED)
    with pytest.raises(ProduceError):
        await third
    assert unacknowledged_record(third) is None
    with pytest.raises(ProduceError):
        await desk.mailbox.wait_again(sent, defer_ack=False)


async def test_shortened_waits_apply_to_present_and_later_requests() -> None:
    desk = Desk(3600)
    _, future = desk.send()
    desk.mailbox.shorten_waits(0.05)
    await too_late(future)
    await too_late(desk.send()[1])


@pytest.mark.parametrize(("records", "size"), [(3, 1), (1, 1000)])
async def test_a_topic_is_full_while_it_has_too_many_overdue_records(
    records: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_OVERDUE_RECORDS", 3)
    monkeypatch.setattr(module, "_MAX_OVERDUE_BYTES", 1000)
    desk = Desk(0.05)
    sent = [desk.send(size=size) for _ in range(records)]
    assert desk.overdue.full == frozenset()
    for _, future in sent:
        await too_late(future)
    assert desk.overdue.full == {"t"}
    desk.mailbox.post(sent[0][0], DELIVERY)
    assert desk.overdue.full == frozenset()


async def test_a_report_to_a_closed_loop_returns_false() -> None:
    closed = asyncio.new_event_loop()
    desk = Desk(1)
    mailbox = Mailbox(closed, 1, desk.deliver, desk.expire, desk.overdue)
    sent = mailbox.begin("t", 1, None)
    closed.close()
    assert not mailbox.post(sent, DELIVERY)
