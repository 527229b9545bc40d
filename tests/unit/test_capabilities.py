"""Which methods a condition of a route serves."""

from __future__ import annotations

import pytest

from kafkaproxy.core.capabilities import Capability, served_methods


@pytest.mark.parametrize(
    ("capability", "method", "expected"),
    [
        (Capability.PRODUCE, None, {"POST", "PUT", "PATCH", "DELETE"}),
        (Capability.PRODUCE, "PUT", {"PUT"}),
        (Capability.FETCH, None, {"GET", "HEAD"}),
        (Capability.FETCH, "GET", {"GET", "HEAD"}),
        (Capability.FETCH, "HEAD", {"HEAD"}),
        (Capability.STREAM, None, {"GET"}),
        (Capability.STREAM, "GET", {"GET"}),
    ],
)
def test_a_method_of_a_condition_and_what_a_capability_serves(
    capability: Capability, method: str | None, expected: set[str]
) -> None:
    assert served_methods(capability, method) == expected
