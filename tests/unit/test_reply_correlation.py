"""Correlation ids outlive the process, the host and the release that made them."""

from __future__ import annotations

import subprocess
import sys

from kafkaproxy.core.correlation import correlation_id, owner_digest


def identify() -> str:
    return correlation_id(
        "key",
        owner=owner_digest([("jwt", "alice")], ["/items/1;"]),
        method="PUT",
        target="/items/1?q=1",
        key=b"1",
        content_type=b"text/plain",
        if_match=None,
        reply_to="replies",
        overrides=[("a", "b")],
        body=b"body",
    )


def test_an_id_never_changes() -> None:
    # A change of it makes a new request of every retry that comes after the upgrade.
    assert identify() == "key-c5f04fda3f9912a03269d5a0682bc30e"


def test_an_id_does_not_depend_on_the_process() -> None:
    code = "from tests.unit.test_reply_correlation import identify; print(identify())"
    for seed in ("1", "2"):
        other = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert other.stdout.strip() == identify()
