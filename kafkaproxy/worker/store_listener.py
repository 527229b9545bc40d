"""The thread that notices changes of the store, whichever process of the host made them."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Final

from kafkaproxy.worker.notify.wake_socket import WakeSocket

__all__ = ["StoreListener"]

log = logging.getLogger("kafkaproxy.worker")

_CHECK_SECONDS: Final = 0.5
_CHECK_STALE_SECONDS: Final = 0.05
"""Between two checks of a store that cannot be served."""


class StoreListener:
    """Waits for wake-ups of other processes and checks the store at least every half second.

    All callables are called from the listener's thread: ``is_fresh`` returns True if the store may be served; ``check_store``
    checks that, moves to another generation if there is one, and returns True if it did; ``last_transaction`` returns the
    number of the store's last transaction; ``changed`` is called after the store changed.
    """

    def __init__(
        self,
        cluster: str,
        socket: WakeSocket,
        *,
        is_fresh: Callable[[], bool],
        check_store: Callable[[], bool],
        last_transaction: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._socket = socket
        self._is_fresh = is_fresh
        self._check_store = check_store
        self._last_transaction = last_transaction
        self._changed = changed
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kafkaproxy-wake-{cluster}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end; :meth:`close` waits for it."""
        self._closed.set()

    def close(self) -> None:
        """Wait up to two seconds until the thread has ended, and close the socket."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._socket.wake()
        self._thread.join(timeout=2)
        self._socket.close()

    def _run(self) -> None:
        seen = 0
        while not self._closed.is_set():
            is_woken = self._socket.wait(_CHECK_SECONDS if self._is_fresh() else _CHECK_STALE_SECONDS)
            if self._closed.is_set():
                return
            try:
                if self._check_store():
                    seen, is_woken = 0, True
                # A datagram may not arrive (another container, another temporary folder): compare the transaction number too.
                seen, before = self._last_transaction(), seen
                if is_woken or seen != before:
                    self._changed()
            except Exception:
                # If this thread ended, the process would serve what it has read until now for ever.
                log.exception("store_check_failed cluster=%s", self._cluster)
                self._closed.wait(_CHECK_SECONDS)
