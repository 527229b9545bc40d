"""How many connections this process can hold: the system's limit of open files, and the limit of its server.

A server at its limit accepts nothing more and says nothing, so clients wait until they give up; a process without a free
descriptor answers 500 and loses Kafka. Below both limits a client that is one too many is told: 503 with ``retry-after``.
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

__all__ = ["make_room"]

log = logging.getLogger("kafkaproxy.asgi")

_OTHERS: Final = 1_000
"""Connections of requests that do not wait, and files: the store, Kafka, the database, merges."""
_SERVERS: Final[Mapping[str, tuple[str, str, Callable[[Mapping[str, Any]], int | None]]]] = {
    "granian": ("granian.cli", "cli", lambda given: given["backpressure"] or given["backlog"] // given["workers"]),
    "uvicorn": ("uvicorn.main", "main", lambda given: given["limit_concurrency"]),
}
"""Program → where its click command is, and its limit by the command's options. Hypercorn and Daphne have no such limit."""


def make_room(settings: Settings) -> None:
    """Raise the soft limit of open files as far as the settings ask and the system allows; warn of each limit that is lower.

    Servers and libraries of the process may have set it higher; it is never lowered.
    """
    wanted = settings.max_streams + settings.max_waiting_requests + _OTHERS
    for of, limit in (("open_files", _raise_open_files(wanted)), _limit_of_server()):
        if limit is not None and limit < wanted:
            log.warning(
                "connection_limit_low limit=%s of=%s wanted=%s: raise it, or lower MAX_STREAMS and MAX_WAITING_REQUESTS; "
                "see docs/how-to/deploy.md",
                limit,
                of,
                wanted,
            )


def _raise_open_files(wanted: int) -> int | None:
    """Return the limit as it is then; None where there is none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None if soft == resource.RLIM_INFINITY else soft
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (OSError, ValueError):  # the kernel's own limit (fs.nr_open), or a sandbox
        return soft
    return raised


def _limit_of_server() -> tuple[str, int | None]:
    """Return the program that serves, and how many connections it accepts; None where that is unlimited or unknown.

    A worker process has the command line of its server, whichever way it was started. The server's own parser reads it, which
    knows the defaults and the variables of the environment.
    """
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    if name not in _SERVERS:
        return name, None
    module, command, limit = _SERVERS[name]
    try:
        parser = getattr(import_module(module), command)
        return name, limit(parser.make_context(name, sys.argv[1:], auto_envvar_prefix=name.upper()).params)
    except Exception:  # another version's options must not keep the site from starting
        log.debug("connection_limit_unknown of=%s", name, exc_info=True)
        return name, None
