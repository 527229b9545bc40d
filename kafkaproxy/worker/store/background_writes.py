"""What a process that only reads the store asks of its writer: small writes, each of which waits for the writer to commit."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from kafkaproxy.worker.store.reader import Store

__all__ = ["BackgroundWrites"]

Write = Callable[[Store], None]


class BackgroundWrites:
    """Runs writes in a thread of its own, one after the other, in order.

    Where the writer is frozen one of them may wait for as long as that is. So the thread is a daemon, which does not keep the
    process from ending, and :meth:`switch_store` leaves it behind.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: deque[tuple[Write, Future[None]]] = deque()
        """The first is under way."""
        self._changed = threading.Condition()
        self._closed = False
        self._thread = self._start()

    def submit(self, write: Write) -> Future[None]:
        """Run an write soon. The future is cancelled where this is closed before."""
        done: Future[None] = Future()
        with self._changed:
            if self._closed:
                done.cancel()
            else:
                self._queue.append((write, done))
                self._changed.notify_all()
        return done

    def switch_store(self, store: Store) -> None:
        """Go on with another store: what is left, and what is under way, is done there."""
        with self._changed:
            self._store = store
            self._thread = self._start()
            self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Drop what is left; return whether the thread ended within so many seconds."""
        with self._changed:
            self._closed = True
            for _, done in self._queue:
                done.cancel()
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(self._store,), name="kafkaproxy-writes", daemon=True)
        thread.start()
        return thread

    def _run(self, store: Store) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed or self._store is not store)
                if self._closed or self._store is not store:
                    return
                write, done = self._queue[0]
            error: BaseException | None = None
            try:
                write(store)
            except Exception as raised:  # noqa: BLE001 - the future has it
                error = raised
            with self._changed:
                if self._store is not store or self._closed:  # it is done again in the other store
                    return
                self._queue.popleft()
            _finish(done, error)


def _finish(done: Future[None], error: BaseException | None) -> None:
    if done.set_running_or_notify_cancel():
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
