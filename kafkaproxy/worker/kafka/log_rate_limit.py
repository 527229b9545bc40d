"""The log rate limit for librdkafka: it tries a broker that is down many times a second and logs every attempt."""

from __future__ import annotations

import logging
import re
import time
from typing import Final

__all__ = ["LogRateLimit", "librdkafka_log"]

_INTERVAL_SECONDS: Final = 30.0
_MAX_MESSAGES: Final = 1000
# Messages that differ only in a duration, such as "(after 3ms in state CONNECT)", are equal.
_VARYING: Final = re.compile(r"\d+ms")


class LogRateLimit(logging.Filter):
    """Lets equal messages through once in 30 seconds, with the number of those that were suppressed since."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the message is to be logged."""
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
"""The logger of librdkafka's own messages."""
librdkafka_log.addFilter(LogRateLimit())
