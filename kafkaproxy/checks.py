"""System checks, with stable ids."""

from __future__ import annotations

__all__ = ["register_all"]


def register_all() -> None:
    """Register the checks."""
