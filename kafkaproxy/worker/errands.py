"""What a process that only reads the store asks of its writer: small writes, each of which waits for the writer to commit."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from kafkaproxy.worker.store import Store

__all__ = ["Errands"]

Errand = Callable[[Store], None]


class Errands:
    """Runs errands in a thread of its own, one after the other, in order.

    Where the writer is frozen one of them may wait for as long as that is. So the thread is a daemon, which does not keep the
    process from ending, and :meth:`move` leaves it behind.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._left: deque[tuple[Errand, Future[None]]] = deque()
        """The first is under way."""
        self._changed = threading.Condition()
        self._closed = False
        self._thread = self._start()

    def submit(self, errand: Errand) -> Future[None]:
        """Run an errand soon. The future is cancelled where this is closed before."""
        done: Future[None] = Future()
        with self._changed:
            if self._closed:
                done.cancel()
            else:
                self._left.append((errand, done))
                self._changed.notify_all()
        return done

    def move(self, store: Store) -> None:
        """Go on with another store: what is left, and what is under way, is done there."""
        with self._changed:
            self._store = store
            self._thread = self._start()
            self._changed.notify_all()

    def close(self, patience: float) -> bool:
        """Drop what is left; return whether the thread ended within so many seconds."""
        with self._changed:
            self._closed = True
            for _, done in self._left:
                done.cancel()
            self._changed.notify_all()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(self._store,), name="kafkaproxy-errands", daemon=True)
        thread.start()
        return thread

    def _run(self, store: Store) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._left or self._closed or self._store is not store)
                if self._closed or self._store is not store:
                    return
                errand, done = self._left[0]
            error: BaseException | None = None
            try:
                errand(store)
            except Exception as raised:  # noqa: BLE001 - the future has it
                error = raised
            with self._changed:
                if self._store is not store or self._closed:  # it is done again in the other store
                    return
                self._left.popleft()
            _finish(done, error)


def _finish(done: Future[None], error: BaseException | None) -> None:
    if done.set_running_or_notify_cancel():
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
