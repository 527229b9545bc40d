"""Waiting on behalf of a client: bounded in time and number, and cancelled on disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from kafkaproxy.conf import Settings
from kafkaproxy.consumers.http import Request
from kafkaproxy.consumers.problems import Problem, retry_after
from kafkaproxy.worker.worker import Worker

__all__ = ["Waiting", "require_place", "waiting"]

T = TypeVar("T")


class Waiting:
    """A wait of up to ``seconds``, cut to the setting ``MAX_WAIT_SECONDS``."""

    def __init__(self, request: Request, worker: Worker, settings: Settings, seconds: float) -> None:
        self._request = request
        self._worker = worker
        self._settings = settings
        self._seconds = min(seconds, settings.max_wait_seconds)

    @property
    def seconds(self) -> float:
        """How long the wait is: less than was asked for where the process stops."""
        return min(self._seconds, self._worker.longest_wait)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work``; raise ``TimeoutError`` at the end of the time, ``ClientGone`` when the client leaves.

        A 503 :class:`Problem` says that too many requests wait already.
        """
        async with self.timeout():
            return await self.run_without_timeout(work)

    @asynccontextmanager
    async def timeout(self) -> AsyncIterator[None]:
        """Raise ``TimeoutError`` at the end of the time, which comes sooner where the process stops."""
        timeouts = self._worker.timeouts
        async with asyncio.timeout(self.seconds) as timeout:
            timeouts[timeout] = asyncio.get_running_loop()
            try:
                yield
            finally:
                del timeouts[timeout]

    async def run_without_timeout(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` as :meth:`run` does, for as long as it takes: it looks at the time itself."""
        try:
            with waiting(self._worker, self._settings):
                async with self._request.cancel_on_disconnect():
                    return await work
        finally:
            work.close()  # which was not begun where too many wait or the client had left, and is over otherwise


@contextmanager
def waiting(worker: Worker, settings: Settings) -> Iterator[None]:
    """Count as a request that waits; a 503 :class:`Problem` says that too many do already."""
    require_place(worker, settings)
    worker.waiting += 1
    try:
        yield
    finally:
        worker.waiting -= 1


def require_place(worker: Worker, settings: Settings) -> None:
    """Raise a 503 :class:`Problem` where too many requests wait already."""
    if worker.waiting >= settings.max_waiting_requests:
        detail = "Too many requests wait for Kafka at the moment. Try again."
        raise Problem(503, "too-many-waiting", detail, [retry_after(settings.retry_after_seconds)])
