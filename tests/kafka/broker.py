"""A broker process of our own, that a test may stop, kill, pause and start again."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import KafkaException

from tests.kafka import launch
from tests.kafka.certificates import Certificates, make_certificates
from tests.kafka.client import Cluster
from tests.kafka.jars import java, kafka_classpath
from tests.kafka.properties import PASSWORD, USER, broker_properties, scram_options

__all__ = ["Broker"]

_START_SECONDS: Final = 90.0
_JVM: Final = [
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
]
_spawner: Final = ThreadPoolExecutor(1, "kafka-spawner")
"""The death signal follows the *thread* that started the process: this one lives as long as we do."""


class Broker(Cluster):
    """Apache Kafka on ports of its own, which it keeps over restarts. It dies with this process."""

    def __init__(
        self, folder: Path, *, secure: bool = False, breakable: bool = False, port: int | None = None, proxy: str = ""
    ) -> None:
        """Keep data in ``folder``.

        ``secure`` adds the listeners SASL_PLAINTEXT, SSL, SASL_SSL and MTLS; ``breakable`` makes it come back sooner;
        ``proxy`` adds the listener PROXIED, whose clients are sent to this address.
        """
        names = ["PLAINTEXT", "CONTROLLER", *(["SASL_PLAINTEXT", "SSL", "SASL_SSL", "MTLS"] if secure else [])]
        names += ["PROXIED"] if proxy else []
        self._proxy = proxy
        self.listeners = dict(zip(names, _free_addresses(len(names)), strict=True))
        if port is not None:
            self.listeners["PLAINTEXT"] = f"127.0.0.1:{port}"
        super().__init__(self.listeners["PLAINTEXT"])
        self.folder = folder
        self._breakable = breakable
        self.user, self.password = USER, PASSWORD
        folder.mkdir(parents=True, exist_ok=True)
        self.certificates: Certificates | None = make_certificates(folder / "certificates") if secure else None
        self._java, self._classpath = java(), kafka_classpath()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the broker said so far."""
        path = self.folder / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Return True if it was started and not ended since."""
        return self._process is not None

    def start(self) -> None:
        """Start, the first time with fresh data, and return when clients are served."""
        properties = self.folder / "server.properties"
        if not properties.exists():
            self._format(properties)
        with (self.folder / "broker.log").open("ab") as log:
            self._process = _spawner.submit(self._spawn, ["kafka.Kafka", str(properties)], log).result()
        self._wait_until_ready()

    def stop(self) -> None:
        """Shut down as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End at once, as a crash does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start on the same ports with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze: connections stay open and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)
        while not all(_is_stopped(task) for task in Path(f"/proc/{self.pid}/task").iterdir()):  # a busy machine takes its time
            time.sleep(0.01)

    def resume(self) -> None:
        """End a pause."""
        self._running().send_signal(signal.SIGCONT)

    def wait(self) -> int:
        """Return the exit status as soon as the broker ends by itself."""
        return self._running().wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the broker does not run: call start() first")
        return self._process

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _format(self, properties: Path) -> None:
        data = self.folder / "data"
        text = broker_properties(data, self.listeners, self.certificates, breakable=self._breakable, proxy=self._proxy)
        properties.write_text(text)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        scram = scram_options() if self.certificates else []
        # An id may begin with a hyphen: it has to stand in one word with its option.
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties), *scram]
        done = subprocess.run(self._command(tool), capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            properties.unlink()
            raise RuntimeError(f"the broker's storage was not formatted: {done.stdout}{done.stderr}")

    def _command(self, arguments: list[str]) -> list[str]:
        return [self._java, *_JVM, "-cp", self._classpath, *arguments]

    def _spawn(self, arguments: list[str], log: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, launch.__file__, str(os.getpid()), *self._command(arguments)]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._serves():
            status = self._running().poll()
            if status is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the broker did not start (exit status {status}): {self.log[-4000:]}")
            time.sleep(0.1)

    def _serves(self) -> bool:
        host, _, port = self.bootstrap.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return bool(self.admin.list_topics(timeout=5).brokers)
        except (OSError, KafkaException):
            return False


def _is_stopped(task: Path) -> bool:
    """Return True if a thread is stopped: the field after its name, which is in parentheses, says so."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0] in "Tt"


def _free_addresses(count: int) -> list[str]:
    """Return loopback addresses that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses
