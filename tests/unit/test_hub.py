"""Waiting for a reply: it is dispatched early or found in the store, and is always the one in the index."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from kafkaproxy.worker.errors import ProduceError, ProduceFailure, TopicUnavailable, Unavailable
from kafkaproxy.worker.notify.hub import Hub
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.writer import Batch, StoreWriter
from kafkaproxy.worker.types import Record, Role

TOPIC = "replies"
HEADER = "zilla:correlation-id"
IDS = ("0123456789abcdef" * 2, "fedcba9876543210" * 2)


def reply(partition: int, offset: int, correlation: str = "") -> Record:
    headers = ((HEADER, (correlation or f"{partition}/{offset}").encode()),)
    return Record(partition, offset, 1, None, b"%d/%d" % (partition, offset), headers)


class Host:
    """The store of a host with a reply topic of two partitions, and the hub of a process of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.writer = StoreWriter(store, frozenset({HEADER}))
        self.writer.begin(b"session1", "localhost:9092")
        self.state = TopicState(name=TOPIC, id=IDS[0], partitions=2, roles=frozenset({Role.REPLY}), ready=True)
        self.writer.start(self.state, {0: 0, 1: 0}, {})
        self.hub = self.another_process()
        self._open = ExitStack()
        self.looked: list[str] = []

    def another_process(self) -> Hub:
        return Hub(asyncio.get_running_loop(), self.store, lambda: {TOPIC: self.state}, frozenset({HEADER}), 1)

    def expect(self, correlation: str, *, early: bool, hub: Hub | None = None) -> asyncio.Future[Record]:
        return self._open.enter_context((hub or self.hub).reply(TOPIC, correlation.encode(), early=early))

    def store_(self, *records: Record) -> None:
        self.writer.apply({TOPIC: Batch(list(records), {})}, {TOPIC: self.state})

    def change(self, state: TopicState) -> None:
        self.state = state
        self.writer.put_states([state])
        self.hub.topics_changed()

    def leave(self) -> None:
        self._open.close()

    async def dispatch_early(self, *records: Record) -> None:
        """Dispatch early as the writer does: from a thread of its own."""
        thread = threading.Thread(target=self.hub.dispatch_early, args=(TOPIC, records))
        thread.start()
        thread.join()
        await asyncio.sleep(0)

    async def wake(self) -> None:
        self.hub.wake()
        await asyncio.sleep(0)

    def reading(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        """Return where the hub begins to read partitions of the store from now on."""
        starts: list[tuple[int, int]] = []
        read = self.store.read

        def noting(topic_id: bytes, partition: int, start: int, *others: int) -> tuple[list[Record], int]:
            starts.append((partition, start))
            return read(topic_id, partition, start, *others)

        monkeypatch.setattr(self.store, "read", noting)
        return starts


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    return Host(Store(tmp_path, 64 << 20))


@pytest.fixture(autouse=True)
def _closed(host: Host) -> Iterator[None]:
    yield
    host.leave()
    assert host.hub._topic_waiters == {}
    host.store.close()


async def test_a_reply_is_dispatched_before_it_is_stored(host: Host) -> None:
    sync, poller = host.expect("a", early=True), host.expect("a", early=False)
    await host.dispatch_early(reply(0, 0, "a"))
    assert (sync.result(), poller.done()) == (reply(0, 0, "a"), False)
    host.store_(reply(0, 0, "a"))
    await host.wake()
    assert poller.result() == reply(0, 0, "a")


async def test_an_early_dispatched_record_is_not_read_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    last, starts = host.expect("last", early=True), host.reading(monkeypatch)
    await host.dispatch_early(reply(0, 0), reply(0, 1), reply(1, 0))
    await host.dispatch_early(reply(0, 2))
    host.store_(reply(0, 0), reply(0, 1), reply(1, 0), reply(0, 2), reply(0, 3, "last"))  # the last was never dispatched
    await host.wake()
    assert starts == [(0, 3), (1, 1)]
    assert last.result() == reply(0, 3, "last")


async def test_a_wait_that_begins_between_early_dispatch_and_commit_gets_its_reply(host: Host) -> None:
    host.expect("another", early=True)
    await host.dispatch_early(reply(0, 0, "a"), reply(1, 0, "b"))
    poller, late = host.expect("a", early=False), host.expect("b", early=True)
    host.store_(reply(0, 0, "a"), reply(1, 0, "b"))
    await host.wake()
    assert (poller.result(), late.result()) == (reply(0, 0, "a"), reply(1, 0, "b"))


@pytest.mark.parametrize("before", [0, 1], ids=["at the start", "later"])
async def test_records_without_early_dispatch_are_found_between_those_with_it(host: Host, before: int) -> None:
    host.expect("another", early=True)
    host.store_(*(reply(0, offset) for offset in range(before)))
    await host.wake()
    missed = host.expect("missed", early=True)
    for offset in range(before):
        await host.dispatch_early(reply(0, offset))
    await host.dispatch_early(reply(0, before + 1))
    host.store_(reply(0, before, "missed"), reply(0, before + 1))
    await host.wake()
    assert missed.result() == reply(0, before, "missed")


async def test_early_dispatch_in_one_partition_skips_no_record_of_another(host: Host) -> None:
    waiting = host.expect("a", early=True)
    await host.dispatch_early(reply(0, 0), reply(0, 1))
    host.store_(reply(0, 0), reply(0, 1), reply(1, 0), reply(1, 1, "a"))
    await host.wake()
    assert waiting.result() == reply(1, 1, "a")


async def test_early_dispatch_of_a_recreated_topic_skips_no_record_of_the_new_one(host: Host) -> None:
    waiting = host.expect("a", early=True)
    await host.dispatch_early(reply(0, 0), reply(0, 1))
    host.change(replace(host.state, id=IDS[1]))
    host.writer.start(host.state, {0: 0, 1: 0}, {})
    host.store_(reply(0, 0, "a"))
    await host.wake()
    assert waiting.result() == reply(0, 0, "a")


async def test_early_dispatch_of_a_truncated_log_skips_no_later_record(host: Host) -> None:
    waiting = host.expect("a", early=True)
    await host.dispatch_early(reply(0, 0), reply(0, 1), reply(0, 2))
    host.store_(reply(0, 0), reply(0, 1), reply(0, 2))
    await host.wake()
    host.writer.drop_data(host.state.key)
    host.writer.start(host.state, {0: 0, 1: 0}, {})
    await host.wake()
    host.store_(reply(0, 0, "a"))
    await host.wake()
    assert waiting.result() == reply(0, 0, "a")


async def test_a_process_that_is_not_the_writer_finds_every_reply_in_the_store(host: Host) -> None:
    host.hub = host.another_process()
    waiting = [host.expect(f"{partition}/{offset}", early=True) for partition in range(2) for offset in range(3)]
    host.store_(*(reply(partition, offset) for partition in range(2) for offset in range(3)))
    await host.wake()
    assert [each.result().value for each in waiting] == [b"0/0", b"0/1", b"0/2", b"1/0", b"1/1", b"1/2"]


@pytest.mark.parametrize("early", [True, False])
async def test_a_request_and_its_retry_get_the_same_one_of_several_replies(host: Host, early: bool) -> None:
    waiting = host.expect("a", early=early)
    host.store_(reply(1, 0, "a"))  # the first reply that this host has read, in the second partition
    host.store_(reply(0, 0, "a"))
    await host.wake()
    again = host.store.reply(host.state.key, b"a")
    assert waiting.result() == again == reply(1, 0, "a")


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("reason", [Unavailable.UNKNOWN_TOPIC, Unavailable.NOT_AUTHORIZED, Unavailable.STORE_FULL])
async def test_a_wait_fails_if_the_topic_is_no_longer_read(host: Host, early: bool, reason: Unavailable) -> None:
    waiting = host.expect("a", early=early)
    host.change(replace(host.state, ready=False, error=str(reason)))
    with pytest.raises(TopicUnavailable, match=reason):
        await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize("reason", [Unavailable.UNREACHABLE, Unavailable.NOT_READ_YET])
async def test_a_transient_error_ends_no_wait(host: Host, reason: Unavailable) -> None:
    waiting = host.expect("a", early=False)
    host.change(replace(host.state, ready=False, error=str(reason)))
    host.change(replace(host.state, ready=True, error=""))
    host.store_(reply(0, 0, "a"))
    await host.wake()
    assert waiting.result() == reply(0, 0, "a")


async def test_failed_work_is_not_shared_with_later_requests(host: Host) -> None:
    made: list[asyncio.Future[int]] = []

    def work(failed: asyncio.Future[int] | None) -> asyncio.Future[int]:
        assert failed is (made[-1] if made else None)
        made.append(asyncio.get_running_loop().create_future())
        return made[-1]

    with host.hub.exchange("a", work) as first, host.hub.exchange("a", work) as second:
        assert first() is second()
        made[0].set_exception(ProduceError(ProduceFailure.UNREACHABLE, ""))
        with pytest.raises(ProduceError):
            await made[0]
        with host.hub.exchange("a", work) as third:  # before the other two have seen the failure
            assert third() is second() is made[1]
            made[1].set_result(1)
            assert await asyncio.wait_for(third(), 5) == 1
    assert len(made) == 2
