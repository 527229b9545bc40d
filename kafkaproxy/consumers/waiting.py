"""Waits for a client: bounded in time and in number, and cancelled on disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from kafkaproxy.conf import Settings
from kafkaproxy.http.problems import Problem, retry_after
from kafkaproxy.http.request import Request
from kafkaproxy.worker.worker import Worker

__all__ = ["BoundedWait", "counted_as_waiting", "require_free_wait"]

T = TypeVar("T")


class BoundedWait:
    """A wait of up to ``seconds``, and of up to the setting ``MAX_WAIT_SECONDS``."""

    def __init__(self, request: Request, worker: Worker, settings: Settings, seconds: float) -> None:
        self._request = request
        self._worker = worker
        self._settings = settings
        self._seconds = min(seconds, settings.max_wait_seconds)

    @property
    def seconds(self) -> float:
        """How long the wait is, in seconds; shorter while the process stops."""
        return min(self._seconds, self._worker.longest_wait)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work``; raise ``TimeoutError`` after the time, ``ClientGone`` when the client disconnects.

        Raises a 503 :class:`Problem` if too many requests wait already.
        """
        async with self.timeout():
            return await self.run_without_timeout(work)

    @asynccontextmanager
    async def timeout(self) -> AsyncIterator[None]:
        """Raise ``TimeoutError`` after the time, or sooner if the process stops: it reschedules these timeouts."""
        timeouts = self._worker.timeouts
        async with asyncio.timeout(self.seconds) as timeout:
            timeouts[timeout] = asyncio.get_running_loop()
            try:
                yield
            finally:
                del timeouts[timeout]

    async def run_without_timeout(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` as :meth:`run` does, but without a timeout: ``work`` uses :meth:`timeout` itself."""
        try:
            with counted_as_waiting(self._worker, self._settings):
                async with self._request.cancel_on_disconnect():
                    return await work
        finally:
            work.close()  # a coroutine that was never started would be warned about; closing a finished one does nothing


@contextmanager
def counted_as_waiting(worker: Worker, settings: Settings) -> Iterator[None]:
    """Count the block as a waiting request; raise a 503 :class:`Problem` if too many wait already."""
    require_free_wait(worker, settings)
    worker.waiting += 1
    try:
        yield
    finally:
        worker.waiting -= 1


def require_free_wait(worker: Worker, settings: Settings) -> None:
    """Raise a 503 :class:`Problem` if too many requests wait already."""
    if worker.waiting >= settings.max_waiting_requests:
        detail = "Too many requests wait for Kafka at the moment. Try again."
        raise Problem(503, "too-many-waiting", detail, [retry_after(settings.retry_after_seconds)])
