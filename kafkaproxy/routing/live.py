"""The configuration that this process serves, and how it follows the database.

A process that serves requests starts it (``asgi.KafkaProxy`` does); importing and ``AppConfig.ready()`` never do. A change that
this process saves is in service when its transaction has committed, one of another process within ``RELOAD_SECONDS`` and the
time it takes to compile.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from django.db import Error as DatabaseProblem
from django.db import close_old_connections, connections

from kafkaproxy.conf import get_settings
from kafkaproxy.models.version import ConfigVersion, Stamp
from kafkaproxy.routing.compile import Compiler, ConfigurationError
from kafkaproxy.routing.table import Configuration
from kafkaproxy.signals import configuration_changed

__all__ = ["LiveConfiguration", "live"]

log = logging.getLogger("kafkaproxy.routing")

_SHORTEST_PAUSE: Final = 0.05
"""Seconds between two looks at the database, however small the setting."""

_STOP_SECONDS: Final = 1.0

Subscriber = Callable[[Configuration], None]


class LiveConfiguration:
    """The table in service. ``current`` is read without a lock: take it once a request.

    A configuration that cannot be compiled, or a database that cannot be read, leaves the last table in service.
    """

    def __init__(self) -> None:
        self.current = Configuration()
        """The table in service; an empty one before the first load."""
        self.generation = 0
        """How many tables were taken into service in this process."""
        self.error = ""
        """Why the newest version is not in service; empty where it is."""
        self._stamp: Stamp | None = None  # of the newest version that was tried
        self._thread: threading.Thread | None = None
        self._compiler = Compiler()
        self._subscribers: list[Subscriber] = []
        self._become_own()

    @property
    def started(self) -> bool:
        """Whether this process follows the database."""
        return self._pid == os.getpid() and self._thread is not None

    def start(self) -> None:
        """Load in this thread what is newer than the table in service, then follow the database in a thread of its own.

        Blocks on the database: call it from a thread. Again, in the same process, it changes nothing; after a fork it starts
        the thread that the child has not got.
        """
        self._check_process()
        with self._lock:
            if self._thread is not None:
                return
            self.refresh()
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._follow, args=(self._stopping,), name="kafkaproxy-configuration", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Stop following; the table stays in service."""
        self._check_process()
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)  # it may wait for a database that does not answer

    def reload(self) -> bool:
        """Load and compile now, whatever the version; return whether the newest configuration is in service.

        Safe from any thread, one at a time. ``error`` says why it is not.
        """
        self._check_process()
        with self._lock:
            return self._load()

    def refresh(self) -> bool:
        """Load and compile if the version moved; return whether the newest configuration is in service."""
        self._check_process()
        with self._lock:
            try:
                moved = ConfigVersion.stamp() != self._stamp
            except DatabaseProblem as error:
                return self._complain(f"The database cannot be read: {error}")
            return self._load() if moved else not self.error

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback`` with each new table once it is in service, in the thread that loaded it; return the way out.

        It is not called for the table already in service: subscribe, then read ``current``.
        """
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            self._become_own()

    def _become_own(self) -> None:
        """Belong to this process. A fork takes along no thread, and locks as they were held."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._thread = None
        self._stopping = threading.Event()

    def _follow(self, stopping: threading.Event) -> None:
        """Poll until told to stop. The connection is this thread's own; one that failed is made anew."""
        while not stopping.wait(max(get_settings().reload_seconds, _SHORTEST_PAUSE)):
            try:
                if not self.refresh():
                    close_old_connections()
            except Exception:
                log.exception("configuration_poll_failed serving=%s", self.current.version)
        connections.close_all()

    def _load(self) -> bool:
        started = time.perf_counter()
        try:
            tried = ConfigVersion.stamp()
            configuration, stamp = self._compiler.load()
        except ConfigurationError as error:
            self._stamp = tried
            return self._complain(str(error))
        except DatabaseProblem as error:
            return self._complain(f"The database cannot be read: {error}")
        self._stamp, self.error = stamp, ""
        self._serve(configuration, time.perf_counter() - started)
        return True

    def _serve(self, configuration: Configuration, seconds: float) -> None:
        self.current = configuration
        self.generation += 1
        log.info(
            "configuration_in_service version=%s gateways=%s seconds=%.3f",
            configuration.version,
            len(configuration.gateways),
            seconds,
        )
        for callback in tuple(self._subscribers):
            try:
                callback(configuration)
            except Exception:
                log.exception("configuration_subscriber_failed subscriber=%r", callback)
        configuration_changed.send_robust(sender=type(self), configuration=configuration, generation=self.generation)

    def _complain(self, error: str) -> bool:
        """Say it once: the poll comes back twice a second."""
        if error != self.error:
            self.error = error
            log.error("configuration_not_in_service serving=%s error=%s", self.current.version, error)
        return False


_live: Final = LiveConfiguration()


def live() -> LiveConfiguration:
    """Return this process's configuration."""
    return _live
