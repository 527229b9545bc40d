"""The configuration that this process serves, and how it follows the database.

A process that serves requests starts it (``asgi.KafkaProxy`` does); importing and ``AppConfig.ready()`` never do. A change that
this process saves is in service when its transaction has committed, one of another process within ``RELOAD_SECONDS`` and the
time it takes to compile.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from django.db import Error as DatabaseProblem
from django.db import close_old_connections, connections, router

from kafkaproxy.conf import get_settings
from kafkaproxy.models.version import ConfigVersion, Stamp
from kafkaproxy.routing.compile import Compiler, ConfigurationError, read_unchanged
from kafkaproxy.routing.kept import find_kept, keep, kept_path
from kafkaproxy.routing.table import Configuration
from kafkaproxy.signals import configuration_changed
from kafkaproxy.specs.from_rows import Rows, configuration_spec

__all__ = ["Following", "LiveConfiguration", "live"]

_STUCK_SECONDS: Final = 15.0
"""How long a look may take before another thread is started. A slow look still counts when it ends."""
_LONGEST_STUCK_SECONDS: Final = 120.0
"""The same at most: it doubles with each thread that is stuck, as there should not be too many."""
_WATCH_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 2.0


class Following:
    """Calls ``look``, which must not raise, then waits ``pause()`` seconds, and so on until it is stopped.

    A thread does so, and is replaced by another one while the database neither answers nor fails: a driver may wait for hours
    for a server that vanished without closing the connection.
    """

    def __init__(self, look: Callable[[], None], pause: Callable[[], float]) -> None:
        self._look = look
        self._pause = pause
        self.looked = threading.Event()
        """Set when a look has ended."""
        self._stopping = threading.Event()
        self._reader = _LookThread(self)
        self._watch = threading.Thread(target=self._replace_stuck, name="kafkaproxy-configuration-watch", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._reader.start()
        self._watch.start()

    def stop(self) -> None:
        """Stop after the present look; waits for that no longer than two seconds. Any thread may call it."""
        self._stopping.set()
        for thread in (self._watch, self._reader):
            if thread is not threading.current_thread():
                thread.join(_STOP_SECONDS)

    def _replace_stuck(self) -> None:
        stuck: list[_LookThread] = []
        while not self._stopping.wait(_WATCH_SECONDS):
            stuck = [each for each in stuck if each.is_alive()]
            if self._reader.seconds() > min(_STUCK_SECONDS * 2 ** len(stuck), _LONGEST_STUCK_SECONDS):
                stuck.append(self._reader)
                self._reader.is_replaced = True
                self._reader = _LookThread(self)
                self._reader.start()

    def repeat(self, reader: _LookThread) -> None:
        """Look again and again in a thread of its own, which has its own connection."""
        try:
            while not (reader.is_replaced or self._stopping.is_set()):
                reader.began = time.monotonic()
                self._look()
                reader.began = None
                self.looked.set()
                self._stopping.wait(self._pause())
        finally:
            connections.close_all()


class _LookThread(threading.Thread):
    def __init__(self, following: Following) -> None:
        super().__init__(name="kafkaproxy-configuration", daemon=True)
        self._following = following
        self.began: float | None = None
        """When the present look began; None between two looks."""
        self.is_replaced = False

    def run(self) -> None:
        self._following.repeat(self)

    def seconds(self) -> float:
        """Return how long the present look has taken so far."""
        began = self.began
        return 0.0 if began is None else time.monotonic() - began


log = logging.getLogger("kafkaproxy.routing")

_SHORTEST_PAUSE: Final = 0.05
"""Seconds between two looks at the database, however small the setting."""
_LONGEST_PAUSE_UNREAD: Final = 0.5
"""The same, however large the setting, until the database was read once."""

Subscriber = Callable[[Configuration], None]


class LiveConfiguration:
    """The table in service. ``current`` is read without a lock: take it once a request.

    A configuration that cannot be compiled, or a database that cannot be read, leaves the last table in service. Where there
    was none yet, the one that was kept on disk is (``kept``), or else ``current.known`` is False. A database without our tables
    says that there are no routes.
    """

    def __init__(self) -> None:
        self.current = Configuration(known=False)
        """The table in service; an empty one that is not ``known`` before the first load."""
        self.generation = 0
        """How many tables were taken into service in this process."""
        self.error = ""
        """Why the newest version is not in service; empty where it is."""
        self._stamp: Stamp | None = None  # of the newest version that was tried
        self._fault = ""  # why that version cannot be compiled
        self._reads = itertools.count(1)
        self._newest = 0  # the latest of the reads that were tried
        self._unkept: tuple[Rows, Stamp] | None = None
        self._asked_for_kept = False
        self._compiler = Compiler()
        self._subscribers: list[Subscriber] = []
        self._following: Following | None = None
        self._become_own()

    @property
    def started(self) -> bool:
        """Return True if this process follows the database."""
        return self._pid == os.getpid() and self._following is not None

    def start(self) -> None:
        """Follow the database in a thread of its own; return when that has loaded what is newer than the table in service.

        Waits for that up to ``START_TIMEOUT_SECONDS``, then serves what was kept on disk: call it from a thread. Again, in the
        same process, it changes nothing; after a fork it starts the thread that the child has not got.
        """
        self._check_process()
        with self._starting:
            if self._following is not None:
                return
            following = self._following = Following(self._look, self._pause)
            following.start()
        if not following.looked.wait(get_settings().start_timeout_seconds):
            self._complain("The database does not answer.")
        self._serve_kept()

    def stop(self) -> None:
        """Stop following; the table stays in service. Does not wait for a database that does not answer."""
        self._check_process()
        with self._starting:
            following, self._following = self._following, None
        if following is not None:
            following.stop()

    def reload(self) -> bool:
        """Load and compile now, whatever the version; return whether the newest configuration is in service.

        Safe from any thread. ``error`` says why it is not.
        """
        return self._load(anyway=True)

    def refresh(self) -> bool:
        """Load and compile if the version moved; return whether the newest configuration is in service."""
        return self._load(anyway=False)

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback`` with each new table once it is in service, in the thread that loaded it; return how to unsubscribe.

        It is not called for the table already in service: subscribe, then read ``current``.
        """
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            self._become_own()

    def _become_own(self) -> None:
        """Start afresh after a fork: the child has no threads, and inherits locks as they were held."""
        self._pid = os.getpid()
        self._taking = threading.RLock()  # never held while the database is asked: it may not answer
        self._starting = threading.Lock()
        self._following = None

    def _look(self) -> None:
        """Poll once. A connection that failed is closed, so that the next poll opens a new one."""
        try:
            if not self.refresh():
                close_old_connections()
            unkept, self._unkept = self._unkept, None
            if unkept is not None:
                keep(*unkept)
        except Exception:
            log.exception("configuration_poll_failed serving=%s", self._served)

    def _pause(self) -> float:
        seconds = max(get_settings().reload_seconds, _SHORTEST_PAUSE)
        return seconds if self._stamp is not None else min(seconds, _LONGEST_PAUSE_UNREAD)

    def _load(self, *, anyway: bool) -> bool:
        self._check_process()
        number = next(self._reads)
        try:
            if ConfigVersion.stamp() == self._stamp and not anyway:
                self.error = self._fault
                return not self.error
            rows, stamp = read_unchanged()
        except ConfigurationError as error:
            return self._cannot_serve(str(error))
        except DatabaseProblem as error:
            return self._cannot_read(error)
        with self._taking:
            # A read that began later has seen all that this one has, and may have been taken meanwhile.
            if number > self._newest and (anyway or stamp != self._stamp):
                self._newest, self._stamp = number, stamp
                self._take(rows, stamp)
            self.error = self._fault
            return not self.error

    def _take(self, rows: Rows, stamp: Stamp) -> None:
        started = time.perf_counter()
        try:
            configuration = self._compiler.compile(configuration_spec(rows), stamp.version)
        except ConfigurationError as error:
            self._fault = str(error)
            self._cannot_serve(self._fault)
            return
        self._fault = self.error = ""
        self._unkept = (rows, stamp)
        self._serve(configuration, time.perf_counter() - started)

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

    def _cannot_read(self, error: DatabaseProblem) -> bool:
        if self._stamp is not None or not _has_no_tables():
            return self._cannot_serve(f"The database cannot be read: {error}")
        self._cannot_serve("The database has no tables of kafkaproxy: run manage.py migrate.")
        with self._taking:
            if not self.current.known:
                self._serve(Configuration(), 0.0)
        return False

    def _cannot_serve(self, error: str) -> bool:
        self._complain(error)
        self._serve_kept()
        return False

    def _serve_kept(self) -> None:
        """Serve what was kept on disk, where nothing was ever in service. It is asked for once."""
        with self._taking:
            if self.current.known or self._asked_for_kept:
                return
            self._asked_for_kept = True
            if (found := find_kept()) is None:
                return
            started = time.perf_counter()
            rows, stamp = found
            try:
                # Not by the compiler of the database's rows, which takes over routes that are the same.
                configuration = Compiler().compile(configuration_spec(rows), stamp.version)
            except ConfigurationError as error:
                log.warning("kept_configuration_unusable path=%s error=%s", kept_path(), error)
                return
            log.warning("kept_configuration_in_service version=%s", stamp.version)
            self._serve(configuration, time.perf_counter() - started)

    @property
    def _served(self) -> str:
        return str(self.current.version) if self.current.known else "nothing"

    def _complain(self, error: str) -> None:
        """Log an error once: the poll is repeated every half a second."""
        if error != self.error:
            self.error = error
            log.error("configuration_not_in_service serving=%s error=%s", self._served, error)


def _has_no_tables() -> bool:
    """Return True if the database answers and says that the site was not migrated."""
    connection = connections[router.db_for_read(ConfigVersion)]
    try:
        return ConfigVersion._meta.db_table not in connection.introspection.table_names()  # noqa: SLF001 (public, says Django)
    except DatabaseProblem:
        return False


_live: Final = LiveConfiguration()


def live() -> LiveConfiguration:
    """Return this process's configuration."""
    return _live
