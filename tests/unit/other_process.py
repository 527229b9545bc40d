"""Code for another process that uses the test database: ``run(code)``. It speaks through its output, a line at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

__all__ = ["run"]

_PRELUDE = """
import os, sys
from django.conf import settings
from {settings} import DATABASES
DATABASES["default"]["NAME"] = {database!r}
import django
django.setup()
from kafkaproxy.routing.live import live
"""


@contextmanager
def run(code: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``code`` with Django set up and ``live`` imported; it is ended at the end of the block."""
    prelude = _PRELUDE.format(settings=os.environ["DJANGO_SETTINGS_MODULE"], database=str(connection.settings_dict["NAME"]))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-u", "-c", prelude + code],
        cwd=Path(__file__).parent.parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
