"""The signals that a site may receive."""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["configuration_changed"]

configuration_changed = Signal()
"""A new route table is in service in this process, no matter which process changed the configuration.

Sent with ``configuration`` (the table) and ``generation`` (how many this process has served), in the thread that loaded it.
"""
