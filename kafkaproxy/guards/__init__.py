"""Guards: one small class for each kind, and what another app needs to add a kind.

A kind is registered in the app's ``AppConfig.ready()``::

    from kafkaproxy.guards import register

    register("mtls", MutualTlsGuard)

Imports ``http``, ``routing``, ``guard_kinds`` and ``core``; no models, no worker. Its modules import each other, not this one.
"""

from __future__ import annotations

from kafkaproxy.guard_kinds import OptionError, register
from kafkaproxy.guards.base import GuardBackend
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import GuardConfig

__all__ = ["ClientPrincipal", "GuardBackend", "GuardConfig", "OptionError", "Refusal", "Request", "register"]
