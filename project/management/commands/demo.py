"""``manage.py demo``: everything ``make demo`` does once the environment is there."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from project.cutting import served_by
from project.prepare import ADMIN, admin_account, import_samples, set_up_topics
from project.responder import Responder
from project.topics import bootstrap_servers, is_embedded

__all__ = ["Command"]

log = logging.getLogger("project.demo")


class Command(BaseCommand):
    """Runs in one process: the server, the responder and, without a Kafka of one's own, the embedded broker."""

    help = "Prepare the demo site and serve it until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the address to serve."""
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *_args: Any, host: str, port: int, **_options: Any) -> None:
        """Migrate, import the samples, make the account, and serve."""
        _require_free(host, port)
        call_command("migrate", verbosity=0)
        import_samples()
        password = admin_account()
        bootstrap = bootstrap_servers()
        set_up_topics(bootstrap)
        stop = threading.Event()
        responder = threading.Thread(target=_respond, args=(bootstrap, stop), name="demo-responder", daemon=True)
        responder.start()
        self.stdout.write(self._banner(host, port, password))
        try:
            _serve(host, port)
        finally:
            stop.set()
            responder.join(timeout=5)

    def _banner(self, host: str, port: int, password: str) -> str:
        broker = "embedded in this process; it keeps nothing" if is_embedded() else "KAFKA_BOOTSTRAP_SERVERS"
        url = f"http://{host}:{port}/"
        lines = [
            f"  The demo     {url}",
            f"  The admin    {url}admin/   user {ADMIN}   password {password}",
            f"  The broker   {broker}",
            "  Ctrl-C stops everything.",
        ]
        return "\n".join(["", *lines, ""])


def _require_free(host: str, port: int) -> None:
    """Find out before the work, not after it."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise CommandError(f"{host}:{port} cannot be served ({error.strerror}). Try another: --port, or PORT=8001.") from error


def _respond(bootstrap: str, stop: threading.Event) -> None:
    # In a group on a real Kafka, so that answered requests stay answered. The embedded broker is new every time.
    try:
        Responder(bootstrap, group=None if is_embedded() else "demo-responder").run(stop)
    except Exception:
        log.exception("the demo's responder ended: sync and async requests stay unanswered")


def _serve(host: str, port: int) -> None:
    from kafkaproxy.serving.runtime import runtime
    from project.asgi import application

    runtime().start()  # now, and not with the first request: daphne has no lifespan
    endpoints = build_endpoint_description_strings(host=host, port=port)
    server = Server(application, endpoints=endpoints, server_name="daphne")
    served_by(server)
    server.run()
