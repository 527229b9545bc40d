"""Signals: configuration changes bump the version and reload this process."""

from __future__ import annotations

__all__ = ["connect"]


def connect() -> None:
    """Follow saves and deletes of the configuration models."""
