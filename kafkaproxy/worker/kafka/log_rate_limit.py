"""librdkafka's log: a broker that is down is tried many times a second, and each attempt is told."""

from __future__ import annotations

import logging
import re
import time
from typing import Final

__all__ = ["LogRateLimit", "librdkafka_log"]

_INTERVAL_SECONDS: Final = 30.0
_MAX_MESSAGES: Final = 1000
# "(after 3ms in state CONNECT)" and the like: the same message all the same.
_VARYING: Final = re.compile(r"\d+ms")


class LogRateLimit(logging.Filter):
    """Lets a message through once in 30 seconds, and then says how many there were meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide about a message."""
        text = record.getMessage()
        key = _VARYING.sub("", text)
        now = time.monotonic()
        last, repeated = self._seen.get(key, (-_INTERVAL_SECONDS, 0))
        if now - last < _INTERVAL_SECONDS:
            self._seen[key] = (last, repeated + 1)
            return False
        if len(self._seen) >= _MAX_MESSAGES:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if repeated:
            record.msg, record.args = f"{text} (and {repeated} more times)", ()
        return True


librdkafka_log: Final = logging.getLogger("kafkaproxy.librdkafka")
"""What librdkafka says by itself."""
librdkafka_log.addFilter(LogRateLimit())
