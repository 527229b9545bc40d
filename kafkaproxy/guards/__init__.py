"""Guards: one small class for each kind, and what another app needs to add a kind.

A kind is registered in the app's ``AppConfig.ready()``::

    from kafkaproxy.guards import register

    register("mtls", MutualTlsGuard)

Imports ``http``, ``routing`` and ``core``; no models, no worker. Its own modules import each other, never this one.
"""

from __future__ import annotations

from kafkaproxy.guards.base import Guard, register
from kafkaproxy.guards.options import OptionError
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.http.request import Request
from kafkaproxy.routing.table import GuardConfig

__all__ = ["ClientPrincipal", "Guard", "GuardConfig", "OptionError", "Refusal", "Request", "register"]
