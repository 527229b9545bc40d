"""Server processes that share a store: started, killed, and kept busy."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from kafkaproxy.worker.store.reader import current_path
from kafkaproxy.worker.store.writer_lock import writer_pid
from tests.kafka import Cluster
from tests.support.servers import Site

__all__ = ["Producing", "StartServer", "freeze", "kill", "thaw", "writer_of"]

StartServer = Callable[..., Site]


def writer_of(sites: Iterable[Site], folder: Path) -> Site:
    """Return the process that holds the writer's lock."""
    held = writer_pid(current_path(folder / "store" / "default"))
    (writer,) = [site for site in sites if held in _family(site)]
    return writer


def _family(site: Site) -> set[int]:
    process = psutil.Process(site.process.pid)
    return {process.pid, *(child.pid for child in process.children(recursive=True))}


def kill(site: Site) -> None:
    """End a process at once, as a crash does."""
    os.kill(site.process.pid, signal.SIGKILL)
    site.process.wait()


def freeze(site: Site) -> None:
    """Stop a process as it is, its locks and transactions included."""
    _signal(site, signal.SIGSTOP)


def thaw(site: Site) -> None:
    """Let a process that was frozen go on."""
    _signal(site, signal.SIGCONT)


def _signal(site: Site, number: signal.Signals) -> None:
    for pid in _family(site):
        os.kill(pid, number)


class Producing:
    """Produces numbers, one after the other and without a pause, until it is stopped."""

    def __init__(self, kafka: Cluster, topic: str) -> None:
        self._stopped = threading.Event()
        self._cluster = Cluster(kafka.bootstrap)
        self._topic = topic
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait until Kafka has all."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stopped.wait(0.01):
            records = [{"value": str(number + each), "key": str(number + each)} for each in range(20)]
            self._cluster.produce_many(self._topic, records)
            number += len(records)
