"""``manage.py runkafkaworker``: read topics into the store in a process of its own."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from typing import Any

from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _

from kafkaproxy.conf import get_settings
from kafkaproxy.routing.live import live
from kafkaproxy.serving.runtime import limits
from kafkaproxy.worker.worker import Worker


class Command(BaseCommand):
    """Runs until it gets SIGTERM or SIGINT.

    With ``KAFKAPROXY["INGEST"] = False`` in the site's settings the server processes leave reading to this one. Several may
    run on a host: one writes, the others wait for its lock.
    """

    help = "Read the topics of the configuration into the store, for all server processes of this host."
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Start, wait for a signal, stop."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        worker = Worker(replace(limits(get_settings()), ingest=True))
        configuration = live()
        taking = threading.Lock()

        def follow(_configuration: object = None) -> None:
            with taking:  # the newest configuration, in whatever order the calls arrive
                worker.configure(configuration.current.clusters)

        configuration.start()
        configuration.subscribe(follow)
        follow()
        self.stdout.write(_("Reading topics into %s. Stop with Ctrl-C.") % get_settings().store_dir)
        stop.wait()
        configuration.stop()
        worker.close()
