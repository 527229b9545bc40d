"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

__all__ = ["KafkaProxyConfig"]


class KafkaProxyConfig(AppConfig):
    """Registers system checks and signal handlers. Opens no connection, as it runs for ``migrate`` too."""

    name = "kafkaproxy"
    label = "kafkaproxy"
    verbose_name = _("Kafka proxy")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register system checks and the signals that follow configuration changes."""
        from kafkaproxy import checks
        from kafkaproxy.routing import announce

        checks.register_all()
        announce.connect()
