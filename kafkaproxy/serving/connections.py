"""How many connections this process can hold: the limit of open files, and the connection limit of the server.

A server at its limit accepts no connection, so clients wait until they give up; a process without a free descriptor answers
500 and loses its connection to Kafka. Our own limits have to be lower than both: they answer 503 with ``retry-after``.
"""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from kafkaproxy.conf import Settings

__all__ = ["raise_open_file_limit"]

log = logging.getLogger("kafkaproxy.asgi")

_OTHER_DESCRIPTORS: Final = 1_000
"""Descriptors for everything but streams and waiting requests: other requests, the store, Kafka, the database, merges."""
_SERVER_LIMITS: Final[Mapping[str, tuple[str, str, Callable[[Mapping[str, Any]], int | None]]]] = {
    "granian": ("granian.cli", "cli", lambda given: given["backpressure"] or given["backlog"] // given["workers"]),
    "uvicorn": ("uvicorn.main", "main", lambda given: given["limit_concurrency"]),
}
"""Program → module and name of its click command, and its connection limit by the command's options.

Hypercorn and Daphne have no such limit.
"""


def raise_open_file_limit(settings: Settings) -> None:
    """Raise the soft limit of open files to what the settings need; log a warning for each limit that stays lower.

    Never lowers it: servers and libraries may have set it higher.
    """
    wanted = settings.max_streams + settings.max_waiting_requests + _OTHER_DESCRIPTORS
    for of, limit in (("open_files", _raise_soft_limit(wanted)), _server_limit()):
        if limit is not None and limit < wanted:
            log.warning(
                "connection_limit_low limit=%s of=%s wanted=%s: raise it, or lower MAX_STREAMS and MAX_WAITING_REQUESTS; "
                "see docs/how-to/deploy.md",
                limit,
                of,
                wanted,
            )


def _raise_soft_limit(wanted: int) -> int | None:
    """Raise the soft limit if it is lower; return the limit after that, None for no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None if soft == resource.RLIM_INFINITY else soft
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (OSError, ValueError):  # above the kernel's own limit (fs.nr_open), or forbidden by a sandbox
        return soft
    return raised


def _server_limit() -> tuple[str, int | None]:
    """Return the server program, and how many connections it accepts; None if that is unlimited or unknown.

    A worker process has the command line of its server. The server's own click parser reads it, as it knows the defaults and
    the environment variables.
    """
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    if name not in _SERVER_LIMITS:
        return name, None
    module, command, limit = _SERVER_LIMITS[name]
    try:
        parser = getattr(import_module(module), command)
        return name, limit(parser.make_context(name, sys.argv[1:], auto_envvar_prefix=name.upper()).params)
    except Exception:  # a server version with other options must not keep the site from starting
        log.debug("connection_limit_unknown of=%s", name, exc_info=True)
        return name, None
