"""Checks of the store: heartbeats of its writer, takeovers from a frozen writer, truncated data files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kafkaproxy.metrics import STORE_TAKEOVERS
from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.store import environment as environments
from kafkaproxy.worker.store import generations
from kafkaproxy.worker.store import watch as watch_store
from kafkaproxy.worker.store.background_writes import BackgroundWrites
from kafkaproxy.worker.store.environment import Blocked
from kafkaproxy.worker.store.generations import current, remove_unused
from kafkaproxy.worker.store.reader import Store, TopicState
from kafkaproxy.worker.store.watch import StoreWatch
from kafkaproxy.worker.store.writer import StoreWriter
from kafkaproxy.worker.store.writer_lock import WriterLock
from kafkaproxy.worker.types import Role

MEGABYTE = 1 << 20
PATIENCE = 40.0
TOPIC = TopicState(name="t", id="0123456789abcdef" * 2, partitions=1, roles=frozenset({Role.FETCH}), ready=True)

_WRITING = """
import sys, time
from pathlib import Path
from kafkaproxy.worker.store.writer_lock import WriterLock
from kafkaproxy.worker.store.reader import Store
from kafkaproxy.worker.store.writer import StoreWriter
store = Store(Path(sys.argv[1]), 64 << 20)
assert WriterLock(store.path).acquire()
StoreWriter(store, frozenset()).write_heartbeat("localhost:9092")
with store.env.begin(write=True, db=store.db("meta")) as txn:
    txn.put(b"look", b"never committed")
    print("in the middle of a transaction", flush=True)
    time.sleep(600)
"""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@contextmanager
def frozen_writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is stopped in the middle of a transaction."""
    with subprocess.Popen([sys.executable, "-c", _WRITING, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            os.kill(process.pid, signal.SIGSTOP)
            yield process
        finally:
            process.kill()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path, 64 * MEGABYTE)
    yield opened
    opened.close()


@pytest.fixture
def writer(store: Store) -> StoreWriter:
    made = StoreWriter(store, frozenset())
    made.begin(b"session1", "localhost:9092")
    return made


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watch_store, "time", made)
    monkeypatch.setattr("kafkaproxy.worker.store.writer.time", made)
    return made


def watching(store: Store, **limits: Any) -> StoreWatch:
    return StoreWatch("default", store, Limits(store_dir=store.folder, **{"ingest": False, **limits}))


class TestHeartbeats:
    def test_a_store_is_fresh_for_as_long_as_the_writer_may_be_silent(
        self, store: Store, writer: StoreWriter, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        watch = watching(store)
        assert watch.check()
        assert not watch.is_fresh, "no writer ever gave a sign of life"
        writer.write_heartbeat("servers")
        watch.check()
        assert watch.is_fresh
        clock.now += 4.9
        watch.check()
        assert watch.is_fresh
        clock.now += 0.2
        assert not watch.is_fresh, "without another look: this process may itself have been stopped"
        watch.check()
        assert "store_stale cluster=default" in caplog.text
        assert watch_store.STORE_FRESH.cell("default").value == 0
        writer.write_heartbeat("servers")
        watch.check()
        assert watch.is_fresh
        assert watch_store.STORE_FRESH.cell("default").value == 1

    def test_an_old_heartbeat_that_is_seen_late_does_not_count(self, store: Store, writer: StoreWriter, clock: Clock) -> None:
        watch = watching(store)
        writer.write_heartbeat("servers")
        clock.now += 60.0
        watch.check()
        assert not watch.is_fresh

    def test_a_heartbeat_from_the_future_lasts_no_longer_than_others(
        self, store: Store, writer: StoreWriter, clock: Clock
    ) -> None:
        clock.now += 3600.0
        writer.write_heartbeat("servers")
        clock.now -= 3600.0
        watch = watching(store)
        watch.check()
        assert watch.is_fresh
        clock.now += 5.1
        watch.check()
        assert not watch.is_fresh

    def test_a_writer_that_goes_on_in_a_store_that_was_replaced_makes_it_fresh_for_no_process(
        self, store: Store, writer: StoreWriter
    ) -> None:
        watch = watching(store)
        generations.replace(store.home, store.path)
        writer.write_heartbeat("servers")
        assert not watch.check()
        assert not watch.is_fresh


class TestTakingOver:
    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environments, "_BLOCKED_SECONDS", 0.3)

    def test_a_frozen_writer_s_store_is_copied(self, tmp_path: Path) -> None:
        store = Store(tmp_path, 64 * MEGABYTE)
        StoreWriter(store, frozenset()).put_states([TOPIC])
        taking, reading = watching(store, ingest=True, writer_timeout=0.3), watching(store, writer_timeout=0.3)
        with frozen_writer(tmp_path) as frozen:
            until(lambda: not reading.check() or not taking.check())
            assert current(store.home) != store.path
            assert STORE_TAKEOVERS.cell("default").value >= 1
            again = Store(tmp_path, 64 * MEGABYTE)
            assert again.path != store.path
            assert again.topics() == {"t": TOPIC}
            assert WriterLock(again.path).acquire()
            again.add_interest("u", frozenset({Role.FETCH}), 1.0)  # nothing blocks here
            # What the frozen process writes when it continues does not change the new store.
            os.kill(frozen.pid, signal.SIGCONT)
        assert again.metadata_poll_request() == b""
        again.close()
        store.close(may_be_in_use=True)
        assert store.topics() == {"t": TOPIC}, "for as long as it is in use"

    def test_without_space_for_a_copy_the_new_store_is_empty(
        self, tmp_path: Path, store: Store, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer.put_states([TOPIC])
        monkeypatch.setattr(environments, "_SPARE_BYTES", 1 << 60)
        watch = watching(store, ingest=True, writer_timeout=0.1)
        with frozen_writer(tmp_path):
            until(lambda: not watch.check())
            again = Store(tmp_path, 64 * MEGABYTE)
        assert again.topics() == {}
        again.close()

    def test_on_a_full_disk_the_store_that_is_there_is_kept(
        self, store: Store, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        lock = WriterLock(store.path)
        assert lock.acquire()
        monkeypatch.setattr(watch_store, "_MIN_FREE_BYTES", 1 << 60)
        watch = watching(store, ingest=True, writer_timeout=0.1)
        until(lambda: watch.check() and "free the disk" in caplog.text)
        watch.close()
        assert watch.check()
        lock.release()

    def test_a_living_writer_is_not_replaced(self, store: Store, writer: StoreWriter) -> None:
        lock = WriterLock(store.path)
        assert lock.acquire()
        watch = watching(store, ingest=True, writer_timeout=0.5)
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            writer.write_heartbeat("servers")
            assert watch.check()
        assert watch._takeover is None
        lock.release()

    def test_time_in_which_this_process_was_stopped_does_not_count_against_the_writer(
        self, store: Store, writer: StoreWriter, clock: Clock
    ) -> None:
        lock = WriterLock(store.path)
        assert lock.acquire()
        writer.write_heartbeat("servers")
        watch = watching(store, ingest=True)
        watch.check()
        clock.now += 600.0
        assert watch.check()
        assert not watch.is_fresh
        assert watch._takeover is None
        for _ in range(5):
            clock.now += 1.0
            watch.check()
        assert watch._takeover is not None
        watch._takeover.join()
        assert not watch.check()
        lock.release()

    def test_a_dead_writer_s_store_is_left_to_its_successor(self, store: Store, writer: StoreWriter, clock: Clock) -> None:
        writer.write_heartbeat("servers")
        watch = watching(store, ingest=True)
        for _ in range(10):
            clock.now += 1.0
            assert watch.check()
        assert watch._takeover is not None
        watch._takeover.join()
        assert watch.check()

    def test_a_writer_that_comes_back_while_its_store_is_copied_keeps_it(
        self, store: Store, writer: StoreWriter, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock = WriterLock(store.path)
        assert lock.acquire()
        watch = watching(store, ingest=True)

        def copy(*_: object) -> None:
            writer.write_heartbeat("servers")
            watch.check()

        monkeypatch.setattr(watch_store, "copy_environment", copy)
        for _ in range(7):
            clock.now += 1.0
            assert watch.check()
        assert watch._takeover is not None
        watch._takeover.join()
        assert watch.check()
        assert watch.is_fresh
        lock.release()


class TestOpening:
    def test_a_store_that_a_frozen_process_blocks_is_copied_when_it_is_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(environments, "_BLOCKED_SECONDS", 0.5)
        before = Store(tmp_path, 64 * MEGABYTE)
        StoreWriter(before, frozenset()).put_states([TOPIC])
        before.close()
        with frozen_writer(tmp_path):
            for _ in range(2):
                with pytest.raises(Blocked):
                    Store(tmp_path, 64 * MEGABYTE, may_replace=False)
            store = Store(tmp_path, 64 * MEGABYTE)
            assert store.topics() == {"t": TOPIC}
            assert store.path != before.path
            store.close()

    def test_a_truncated_data_file_is_rebuilt(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        store = Store(tmp_path, 64 * MEGABYTE)
        StoreWriter(store, frozenset()).put_states([TOPIC])
        fill(store)
        store.close()
        os.truncate(store.path / "data.mdb", 8 * 4096)
        again = Store(tmp_path, 64 * MEGABYTE)
        assert again.path != store.path
        assert again.topics() == {}
        assert "data.mdb has 32768 bytes" in caplog.text
        again.close()

    def test_a_data_file_whose_last_pages_lmdb_never_wrote_is_kept(self, tmp_path: Path) -> None:
        store = Store(tmp_path, 64 * MEGABYTE)
        writer = StoreWriter(store, frozenset())
        writer.put_states([TOPIC])
        writer.write_heartbeat("servers")
        with store.env.begin(write=True, db=store.db("records")) as txn:  # the second value takes the pages of the first
            txn.put(b"k", b"x" * MEGABYTE)
            txn.put(b"k", b"x" * 10)
        store.close()
        again = Store(tmp_path, 64 * MEGABYTE)
        assert again.path == store.path
        assert again.topics() == {"t": TOPIC}
        again.close()


def fill(store: Store) -> None:
    with store.env.begin(write=True, db=store.db("records")) as txn:
        for number in range(1000):
            txn.put(b"%d" % number, b"x" * 1000)


class TestDamage:
    def test_a_data_file_that_is_truncated_in_use_is_noticed(
        self, store: Store, writer: StoreWriter, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill(store)
        writer.write_heartbeat("servers")
        watch = watching(store)
        assert watch.check()
        assert watch.is_fresh
        os.truncate(store.path / "data.mdb", 8 * 4096)
        assert not watch.check()
        assert not watch.is_fresh
        assert current(store.home) not in (None, store.path)
        assert "store_torn cluster=default" in caplog.text

    def test_a_truncated_data_file_is_not_extended(self, store: Store, writer: StoreWriter) -> None:
        fill(store)
        os.truncate(store.path / "data.mdb", 8 * 4096)
        with store.env.begin(write=True) as txn:
            store.extend_file()
            txn.abort()
        assert (store.path / "data.mdb").stat().st_size == 8 * 4096

    def test_a_store_that_is_removed_in_use_is_noticed(self, tmp_path: Path, store: Store) -> None:
        watch = watching(store)
        assert watch.check()
        shutil.rmtree(store.home)
        assert not watch.check()
        assert current(store.home) is not None


class TestBackgroundWrites:
    def test_writes_that_a_frozen_writer_blocks_are_made_in_the_next_store(self, tmp_path: Path) -> None:
        frozen, free = Store(tmp_path / "a", 64 * MEGABYTE), Store(tmp_path / "b", 64 * MEGABYTE)
        writes = BackgroundWrites(frozen)
        with frozen_writer(tmp_path / "a"):
            first = writes.submit(lambda store: store.add_interest("t", frozenset({Role.FETCH}), 1.0))
            second = writes.submit(lambda store: store.add_interest("u", frozenset({Role.FETCH}), 1.0))
            assert not first.done()
            writes.switch_store(free)
            first.result(PATIENCE)
            second.result(PATIENCE)
            assert set(free.interest()) == {"t", "u"}
        assert writes.close(PATIENCE)
        free.close()
        frozen.close(may_be_in_use=True)

    def test_waiting_writes_are_cancelled_on_close(self, tmp_path: Path) -> None:
        store = Store(tmp_path, 64 * MEGABYTE)
        writes = BackgroundWrites(store)
        begun = threading.Event()

        def begin(store: Store) -> None:
            begun.set()
            store.request_metadata_poll()

        with frozen_writer(tmp_path):
            blocked = writes.submit(begin)
            assert begun.wait(PATIENCE)
            left: Future[None] = writes.submit(Store.request_metadata_poll)
            assert not writes.close(0.2), "it is blocked"
            with pytest.raises(CancelledError):
                left.result(PATIENCE)
            with pytest.raises(CancelledError):
                writes.submit(Store.request_metadata_poll).result(PATIENCE)
            assert blocked.cancelled()
        store.close(may_be_in_use=True)

    def test_a_write_that_fails_does_not_stop_the_next_one(self, store: Store) -> None:
        writes = BackgroundWrites(store)

        def fail(_store: Store) -> None:
            raise ValueError("no")

        failed, done = writes.submit(fail), writes.submit(Store.request_metadata_poll)
        with pytest.raises(ValueError, match="no"):
            failed.result(PATIENCE)
        done.result(PATIENCE)
        assert store.metadata_poll_request()
        assert writes.close(PATIENCE)

    def test_a_process_with_a_blocked_write_ends(self, tmp_path: Path) -> None:
        code = """
import sys
from pathlib import Path
from kafkaproxy.worker.store.background_writes import BackgroundWrites
from kafkaproxy.worker.store.reader import Store
store = Store(Path(sys.argv[1]), 64 << 20)
print("open", flush=True)
sys.stdin.readline()
BackgroundWrites(store).submit(Store.request_metadata_poll)
"""
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        with frozen_writer(tmp_path):
            process.communicate("go\n", timeout=PATIENCE)
        assert process.returncode == 0


def test_a_generation_is_removed_when_the_last_environment_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path, 64 * MEGABYTE)
    txn = store.env.begin()
    generations.replace(store.home, store.path)
    store.close(may_be_in_use=True)
    remove_unused(store.home)
    assert store.path.exists(), "a transaction reads from it"
    path, home = store.path, store.home
    del txn, store
    remove_unused(home)
    assert not path.exists()
