"""Small writes to the store by processes that are not its writer. Each waits until the writer's transaction has ended."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from kafkaproxy.worker.store.reader import Store

__all__ = ["BackgroundWrites"]

Write = Callable[[Store], None]


class BackgroundWrites:
    """Runs writes in a thread of its own, one after the other, in the order in which they were submitted.

    If the writer is frozen, a write may block until the writer goes on. So the thread is a daemon, which does not keep the
    process from ending, and :meth:`switch_store` starts another one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: deque[tuple[Write, Future[None]]] = deque()
        """The first one is being run."""
        self._changed = threading.Condition()
        self._closed = False
        self._thread = self._start()

    def submit(self, write: Write) -> Future[None]:
        """Run a write soon, in this class's thread. The future is cancelled if :meth:`close` is called before."""
        done: Future[None] = Future()
        with self._changed:
            if self._closed:
                done.cancel()
            else:
                self._queue.append((write, done))
                self._changed.notify_all()
        return done

    def switch_store(self, store: Store) -> None:
        """Continue with another store. Writes that wait, and one that is blocked, are made there."""
        with self._changed:
            self._store = store
            self._thread = self._start()
            self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Cancel the writes that wait; return True if the thread ended within ``timeout`` seconds."""
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
            except Exception as raised:  # noqa: BLE001 - the future reports it
                error = raised
            with self._changed:
                if self._store is not store or self._closed:  # it is made in the other store, or cancelled
                    return
                self._queue.popleft()
            _finish(done, error)


def _finish(done: Future[None], error: BaseException | None) -> None:
    if done.set_running_or_notify_cancel():
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
