"""The runtime of a process: the live configuration, its routing table, and the Kafka worker.

It starts with the lifespan protocol's startup or, on a server without lifespan, with the first request; never at import, in
``AppConfig.ready()`` or in ``migrate``.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kafkaproxy.conf import Settings, get_settings
from kafkaproxy.consumers.context import Observer
from kafkaproxy.consumers.rest import RestConsumer
from kafkaproxy.consumers.stream import StreamConsumer
from kafkaproxy.guards.authorization_sessions import AuthorizationSessions
from kafkaproxy.guards.base import ConfiguredGuards
from kafkaproxy.guards.principals import ANONYMOUS, Principals
from kafkaproxy.http.cors import Cors
from kafkaproxy.http.request import Request
from kafkaproxy.routing.live import live
from kafkaproxy.routing.matching import Found, Match, Matcher, NotAllowed, Outcome, Refused, RequestLine, join
from kafkaproxy.routing.table import Capability, Configuration
from kafkaproxy.serving.connections import raise_open_file_limit
from kafkaproxy.serving.fast_path import PreparedHandlers
from kafkaproxy.serving.response_cache import ResponseCache
from kafkaproxy.streaming.registry import StreamRegistry
from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.worker import Worker

__all__ = ["Runtime", "Table", "limits", "runtime"]


def limits(settings: Settings) -> Limits:
    """Return the limits of the worker, as the settings have them."""
    return Limits(
        store_dir=settings.store_dir,
        store_max_bytes=settings.store_max_bytes,
        stream_store_bytes=settings.stream_store_bytes,
        ingest=settings.ingest,
        max_topics=settings.max_topics,
        topic_idle=settings.topic_idle_seconds,
        max_record_bytes=settings.max_record_bytes,
        max_waiting=settings.max_waiting_requests,
        max_merges=settings.max_merges,
        max_wait=settings.max_wait_seconds,
        produce_timeout=settings.produce_timeout_seconds,
        stop=settings.stop_seconds,
        metadata_interval=settings.metadata_seconds,
        retention_interval=settings.retention_seconds,
        writer_timeout=settings.writer_timeout_seconds,
    )


class Table:
    """A configuration in use: matcher, guards, CORS policies and caches. A request uses one table from start to end."""

    def __init__(self, configuration: Configuration, last: Table | None = None) -> None:
        self.configuration = configuration
        self.matcher = Matcher(configuration)
        self.response_cache = ResponseCache()
        self.prepared = PreparedHandlers()
        self.guards: ConfiguredGuards = ConfiguredGuards(
            configuration.guards, configuration.gateways, None if last is None else last.guards
        )
        self.cors = {each.name: Cors(each) for each in configuration.gateways}

    async def decide(
        self,
        candidates: Sequence[Found],
        request: Request,
        line: RequestLine | None = None,
        observer: Observer | None = None,
    ) -> tuple[Outcome, Principals]:
        """Return what serves the request, or why nothing does, and the principals that its guards found.

        Gateways differ in where a credential stands, so each one's guards are asked separately, until one gateway serves or
        refuses. ``line``: match this request line instead of the request's own.
        """
        not_allowed: NotAllowed | None = None
        for gateway, own in self.matcher.split(candidates):
            names = self.matcher.guards(own)
            told = None if observer is None else observer.impersonated
            principals = await self.guards.authenticate(names, request, gateway, told) if names else ANONYMOUS
            if observer is not None:
                observer.authenticated(gateway, principals)
            outcome = self.matcher.resolve(own, line or request, principals)
            if isinstance(outcome, (Match, Refused)):
                return outcome, principals
            not_allowed = join(not_allowed, outcome)
        return not_allowed, ANONYMOUS


class Runtime:
    """The parts of one process. ``table`` is None before the start; a change of the configuration replaces it as a whole."""

    def __init__(self, store_dir: Path | None = None) -> None:
        self.pid = os.getpid()
        settings = get_settings()
        self.worker = Worker(limits(settings if store_dir is None else replace(settings, store_dir=store_dir)))
        self.streams = StreamRegistry(self._shorten_waits)
        self.sessions = AuthorizationSessions()
        self._rest = RestConsumer(self.worker)
        self._stream = StreamConsumer(self.worker, self.streams, self.sessions)
        self.table: Table | None = None
        self._lock = threading.Lock()
        self._configuring = threading.Lock()
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> Table:
        """Load the configuration and start the worker; return the table. Blocks; a second call does nothing.

        Waits for the database up to ``START_TIMEOUT_SECONDS``; a configuration that is loaded later replaces the table then.
        """
        with self._lock:
            if self.table is None:
                raise_open_file_limit(get_settings())
                configuration = live()
                configuration.start()
                self._unsubscribe = configuration.subscribe(self._follow)
                self._follow(configuration.current)
                atexit.register(self.stop)
            assert self.table is not None
            return self.table

    async def astart(self) -> Table:
        """Start without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(None, self.start)

    def stop(self) -> None:
        """Stop: flush the producers, within what is left of ``STOP_SECONDS``."""
        atexit.unregister(self.stop)
        self._unsubscribe()
        live().stop()
        self.worker.close(self.streams.stop_by)

    def _shorten_waits(self) -> None:
        """Shorten the waits of requests, as the process is about to stop."""
        self.worker.shorten_waits(get_settings().stop_seconds / 3)

    async def astop(self) -> None:
        """End the streams, then stop, without blocking the event loop."""
        await self.streams.drained()
        await asyncio.get_running_loop().run_in_executor(None, self.stop)

    def consumer(self, match: Match) -> RestConsumer | StreamConsumer:
        """Return the consumer that serves a match."""
        return self._stream if match.route.capability is Capability.STREAM else self._rest

    def _follow(self, _configuration: Configuration) -> None:
        """Take over the newest configuration.

        Not the argument: two changes may arrive in two threads, and the one that gets the lock last may be the older one.
        """
        with self._configuring:
            self.configure(live().current)

    def configure(self, configuration: Configuration) -> None:
        """Use a configuration from now on. The worker comes first, so that no route in the table is without its cluster."""
        self.worker.configure(configuration.clusters)
        self.table = Table(configuration, self.table)


_runtime: Runtime | None = None
_guard = threading.Lock()


def runtime() -> Runtime:
    """Return this process's runtime; a forked process gets its own."""
    global _runtime
    if _runtime is None or _runtime.pid != os.getpid():
        with _guard:
            if _runtime is None or _runtime.pid != os.getpid():
                _runtime = Runtime()
    return _runtime
