"""Waiting on behalf of a client: bounded in time and number, and cancelled on disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
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
        self.seconds = min(seconds, settings.max_wait_seconds)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work``; raise ``TimeoutError`` at the end of the time, ``ClientGone`` when the client leaves.

        A 503 :class:`Problem` says that too many requests wait already.
        """
        async with asyncio.timeout(self.seconds):
            return await self.run_without_timeout(work)

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
