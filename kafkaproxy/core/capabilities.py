"""What a route can do, and the HTTP methods for it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

__all__ = ["Capability", "served_methods"]


class Capability(StrEnum):
    """The capability of a route."""

    PRODUCE = "produce"
    FETCH = "fetch"
    STREAM = "stream"


_METHODS: Final[Mapping[Capability, frozenset[str]]] = {
    Capability.PRODUCE: frozenset({"POST", "PUT", "PATCH", "DELETE"}),
    Capability.FETCH: frozenset({"GET", "HEAD"}),
    Capability.STREAM: frozenset({"GET"}),
}


def served_methods(capability: Capability, method: str | None) -> frozenset[str]:
    """Return the methods that a condition serves: its own, or all of the capability. A fetch of GET serves HEAD too."""
    if method is None or (capability is Capability.FETCH and method == "GET"):
        return _METHODS[capability]
    return frozenset({method})
