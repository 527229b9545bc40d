"""Producers that never pause, in a process of their own, and what Kafka acknowledged of what they sent.

A flow sends the numbers 1, 2, 3 and so on as values; number n has the key ``k<n % keys>``. Numbers that must never be seen,
because their transaction is not committed, are negative.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

__all__ = ["Flow", "Kind", "Traffic"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_PATIENCE: Final = 60.0
_REPORT_SECONDS: Final = 0.1
_STEP_SECONDS: Final = 0.005
"""What is due within this time is sent at once, which keeps the producer's own share of the CPU small."""


class Kind(StrEnum):
    """How a flow produces."""

    PLAIN = "plain"
    COMMITTED = "committed"
    """In transactions, each of which is committed."""
    ABORTED = "aborted"
    """In transactions, each of which is aborted: nothing is ever acknowledged."""
    OPEN = "open"
    """Plain, after a transaction on every partition that stays open until the flow is stopped: no reader of committed records
    sees any of it before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What one producer sends."""

    topic: str
    rate: float
    """Records per second, of all partitions together."""
    kind: Kind = Kind.PLAIN
    keys: int = 50
    partitions: int = 1
    """How many partitions the open transaction of an ``OPEN`` flow takes part in."""
    id_header: str = ""
    """A header that every record has, with a value of its own; none where empty."""
    transaction_seconds: float = 0.1
    """How long the transactions of a ``COMMITTED`` or ``ABORTED`` flow last."""


@dataclass(slots=True)
class _Report:
    taken: float = 0.0
    """When, by the system's monotonic clock."""
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    last: Mapping[str, int] | None = None


class Traffic:
    """Sends flows from the start of a ``with`` block to its end, unless :meth:`stop` ends them before."""

    def __init__(self, bootstrap: str, *flows: Flow) -> None:
        self._flows = flows
        self._reports = [_Report() for _ in flows]
        self._changed = threading.Condition()
        command = [sys.executable, "-m", "tests.support.traffic", bootstrap, json.dumps([asdict(flow) for flow in flows])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        try:
            self.goes_on()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def acknowledged(self, flow: Flow) -> int:
        """Return how many records Kafka had acknowledged some tenths of a second ago; in transactions: their commits.

        If none failed, the numbers 1 up to this one are in the topic.
        """
        return self._report(flow).acknowledged

    def last(self, flow: Flow) -> dict[str, int]:
        """Return key → the highest number that Kafka had acknowledged some tenths of a second ago."""
        return dict(self._report(flow).last or {})

    def last_now(self, flow: Flow) -> dict[str, int]:
        """Return :meth:`last` as of after the call."""
        self._renew(flow)
        return self.last(flow)

    def sent_now(self, flow: Flow) -> int:
        """Return a number so that every higher one is sent after the call."""
        self._renew(flow)
        return self._report(flow).sent

    def wait_for(self, flow: Flow, count: int) -> None:
        """Wait until ``count`` records are acknowledged (of a flow that aborts or stays open: sent)."""
        hidden = flow.kind in (Kind.ABORTED, Kind.OPEN)
        self._wait(lambda: (self._report(flow).sent if hidden else self.acknowledged(flow)) >= count, f"{count} of {flow}")

    def goes_on(self) -> None:
        """Wait until every flow has sent more than it had at the call: fails if the traffic has ended."""
        before = [report.sent for report in self._reports]
        self._wait(lambda: all(now.sent > then for now, then in zip(self._reports, before, strict=True)), f"more than {before}")

    def stop(self) -> None:
        """Stop, and wait until Kafka acknowledged all of it and open transactions are aborted. Fail if a record was refused."""
        self._end()
        failed = [(flow, each.failed) for flow, each in zip(self._flows, self._reports, strict=True) if each.failed]
        if failed or self._process.returncode:
            raise RuntimeError(f"the producers ended with {self._process.returncode}; records that failed: {failed}")

    def _renew(self, flow: Flow) -> None:
        asked = time.monotonic()
        self._wait(lambda: self._report(flow).taken > asked, f"a report of {flow}")

    def _report(self, flow: Flow) -> _Report:
        return self._reports[self._flows.index(flow)]

    def _wait(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        with self._changed:
            while not condition():
                if not self._reader.is_alive() or not self._changed.wait(deadline - time.monotonic()):
                    raise RuntimeError(f"the producers did not send {what}; exit status {self._process.poll()}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reports = [_Report(**each) for each in json.loads(line)]
            with self._changed:
                self._reports = reports
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


class _Sender:
    """Sends one flow from a thread."""

    def __init__(self, bootstrap: str, flow: Flow, number: int, stop: threading.Event) -> None:
        self.report = _Report(last={})
        self.flow = flow
        self._stop = stop
        self._transactional = flow.kind in (Kind.COMMITTED, Kind.ABORTED)
        self._client = {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 5}
        # The flow has to find partitions that are added, and a topic that is created again, soon.
        self._client |= {"topic.metadata.refresh.interval.ms": 300, "topic.metadata.propagation.max.ms": 1000}
        # Plain records stay in order without idempotence, which a topic that is created again would break.
        transactional = {"transactional.id": f"{flow.topic}-{number}"}
        plain = {"enable.idempotence": False, "max.in.flight.requests.per.connection": 1}
        self._producer = Producer({**self._client, **(transactional if self._transactional else plain)})
        self._uncommitted: dict[str, int] = {}
        self._sent_in_transaction = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        open_transaction = self._open_transaction() if self.flow.kind is Kind.OPEN else None
        if self._transactional:
            self._producer.init_transactions(_PATIENCE)
        self._send_until_stopped()
        if open_transaction is not None:
            open_transaction.abort_transaction(_PATIENCE)
        self._producer.flush(_PATIENCE)

    def _send_until_stopped(self) -> None:
        begun = time.monotonic()
        number = 0
        while not self._stop.is_set():
            ends = time.monotonic() + self.flow.transaction_seconds
            if self._transactional:
                self._producer.begin_transaction()
            # At a low rate each record comes when it is due, so that no gap is longer than others.
            while not self._stop.wait(max(begun + (number + 1) / self.flow.rate - time.monotonic(), _STEP_SECONDS)):
                due = int((time.monotonic() - begun) * self.flow.rate)
                while number < due:
                    number += 1
                    self._send(number)
                self._producer.poll(0)
                if self._transactional and time.monotonic() >= ends:
                    break
            self._end_transaction()

    def _send(self, number: int) -> None:
        key = f"k{number % self.flow.keys}"
        value = str(-number if self.flow.kind is Kind.ABORTED else number)
        headers: dict[str, str | bytes | None] = {}
        if self.flow.id_header:
            headers[self.flow.id_header] = f"{self.flow.topic}-{number}"
        while True:
            try:
                self._producer.produce(self.flow.topic, value, key, headers=headers, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException:  # the topic is away at the moment
                self.report.failed += 1
                return
            else:
                self.report.sent += 1
                return

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.report.failed += 1
            return
        key: Any = message.key()
        value: Any = message.value()
        if self._transactional:
            self._sent_in_transaction += 1
            self._uncommitted[key.decode()] = int(value)
        else:
            self.report.acknowledged += 1
            self._note({key.decode(): int(value)})

    def _end_transaction(self) -> None:
        if self._transactional:
            self._producer.flush(
                _PATIENCE
            )  # counts what was delivered; and aborting would drop what the broker has not seen yet
        if self.flow.kind is Kind.ABORTED:
            self._producer.abort_transaction(_PATIENCE)
        elif self.flow.kind is Kind.COMMITTED:
            self._producer.commit_transaction(_PATIENCE)
            self.report.acknowledged += self._sent_in_transaction
            self._note(self._uncommitted)
        self._sent_in_transaction, self._uncommitted = 0, {}

    def _note(self, numbers: Mapping[str, int]) -> None:
        assert isinstance(self.report.last, dict)
        self.report.last.update(numbers)

    def _open_transaction(self) -> Producer:
        options = {"transactional.id": f"{self.flow.topic}-open", "transaction.timeout.ms": 600_000}
        producer = Producer({**self._client, **options})
        producer.init_transactions(_PATIENCE)
        producer.begin_transaction()
        for partition in range(self.flow.partitions):
            producer.produce(self.flow.topic, "-1", "open", partition=partition)
        producer.flush(_PATIENCE)
        return producer


def _run(bootstrap: str, flows: Sequence[Mapping[str, Any]]) -> None:
    """Send until standard input ends; report on standard output several times a second."""
    stop = threading.Event()
    given = [Flow(**{**each, "kind": Kind(each["kind"])}) for each in flows]
    senders = [_Sender(bootstrap, flow, number, stop) for number, flow in enumerate(given)]
    for sender in senders:
        sender.thread.start()
    threading.Thread(target=_stop_with_input, args=(stop,), daemon=True).start()
    while not stop.wait(_REPORT_SECONDS) and all(sender.thread.is_alive() for sender in senders):
        _print(senders)
    failed = not stop.is_set()
    stop.set()
    for sender in senders:
        sender.thread.join()
    _print(senders)
    if failed:
        raise SystemExit("a flow ended before it was stopped")


def _stop_with_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def _print(senders: Iterable[_Sender]) -> None:
    # The number first: what is acknowledged between the two must not be missing from the newest numbers.
    reports = []
    for sender in senders:
        report = sender.report
        taken = time.monotonic()
        acknowledged = report.acknowledged
        # A copy is made in one step, while the sender goes on.
        last = dict(report.last or {})
        counts = {"sent": report.sent, "acknowledged": acknowledged, "failed": report.failed}
        reports.append({"taken": taken, **counts, "last": last})
    sys.stdout.write(json.dumps(reports) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _run(sys.argv[1], json.loads(sys.argv[2]))
