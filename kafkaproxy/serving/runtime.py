"""What runs in a process: the live configuration, its matcher, and the worker. Started by the first who needs it.

Never at import, in ``AppConfig.ready()`` or in ``migrate``: on lifespan startup or, where a server has no lifespan, with the
first request.
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
from kafkaproxy.guards.base import Guards
from kafkaproxy.guards.principals import ANONYMOUS, Principals
from kafkaproxy.guards.sessions import AuthorizationSessions
from kafkaproxy.http.cors import Cors
from kafkaproxy.http.request import Request
from kafkaproxy.routing.live import live
from kafkaproxy.routing.matching import Found, Match, Matcher, NotAllowed, Outcome, Refused, RequestLine, join
from kafkaproxy.routing.table import Capability, Configuration
from kafkaproxy.serving.connections import make_room
from kafkaproxy.serving.response_cache import HotFetches, Plans
from kafkaproxy.streaming.registry import Streams
from kafkaproxy.worker.kafka.client import Limits
from kafkaproxy.worker.worker import Worker

__all__ = ["Runtime", "Table", "limits", "runtime"]


def limits(settings: Settings) -> Limits:
    """Return what the worker takes from the settings."""
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
    """A configuration in service: its matcher, its guards and its CORS policies. Requests keep the one they began with."""

    def __init__(self, configuration: Configuration, last: Table | None = None) -> None:
        self.configuration = configuration
        self.matcher = Matcher(configuration)
        self.hot = HotFetches()
        self.plans = Plans()
        self.guards: Guards = Guards(configuration.guards, configuration.gateways, None if last is None else last.guards)
        self.cors = {each.name: Cors(each) for each in configuration.gateways}

    async def decide(
        self,
        candidates: Sequence[Found],
        request: Request,
        line: RequestLine | None = None,
        observer: Observer | None = None,
    ) -> tuple[Outcome, Principals]:
        """Return what serves the request, or why nothing does, and who the client is.

        Each gateway has its own place for credentials, so each is asked by itself, until one serves or refuses. ``line`` is
        what is looked for instead of the request's own line.
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
    """The parts of one process. ``table`` is None until started, and is swapped whole."""

    def __init__(self, store_dir: Path | None = None) -> None:
        self.pid = os.getpid()
        settings = get_settings()
        self.worker = Worker(limits(settings if store_dir is None else replace(settings, store_dir=store_dir)))
        self.streams = Streams(self._hurry)
        self.sessions = AuthorizationSessions()
        self._rest = RestConsumer(self.worker)
        self._stream = StreamConsumer(self.worker, self.streams, self.sessions)
        self.table: Table | None = None
        self._lock = threading.Lock()
        self._following = threading.Lock()
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> Table:
        """Load the configuration and start the worker; blocks, and does nothing the second time.

        No longer than ``START_TIMEOUT_SECONDS`` for the database: what is loaded later is taken over then.
        """
        with self._lock:
            if self.table is None:
                make_room(get_settings())
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
        """Stop: what was handed to a producer is flushed, within the time that is left of ``STOP_SECONDS``."""
        atexit.unregister(self.stop)
        self._unsubscribe()
        live().stop()
        self.worker.close(self.streams.stop_by)

    def _hurry(self) -> None:
        """Let no request wait for long: the process stops."""
        self.worker.hurry(get_settings().stop_seconds / 3)

    async def astop(self) -> None:
        """End the streams, then stop, without blocking the event loop."""
        await self.streams.drained()
        await asyncio.get_running_loop().run_in_executor(None, self.stop)

    def consumer(self, match: Match) -> RestConsumer | StreamConsumer:
        """Return what serves a match."""
        return self._stream if match.route.capability is Capability.STREAM else self._rest

    def _follow(self, _configuration: Configuration) -> None:
        """Take over the newest configuration: what the caller has may be older by the time it is its turn."""
        with self._following:
            self.configure(live().current)

    def configure(self, configuration: Configuration) -> None:
        """Take over a configuration: the worker first, so that no request finds a route without its cluster."""
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
