"""The admin of guards."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from kafkaproxy.admin.base import ConfigAdmin
from kafkaproxy.admin.secrets import SecretsAdminMixin, SecretsForm
from kafkaproxy.models import Guard

__all__ = ["GuardAdmin"]


@admin.register(Guard)
class GuardAdmin(SecretsAdminMixin, ConfigAdmin):
    """Guards."""

    form = SecretsForm
    empty_text = _(
        "A guard says who a client is: by the tokens of an issuer, or by the session of this site. "
        "Routes and entries require guards; without one they are open to everybody."
    )
    masked_fields = ("options",)
    list_display = ["name", "kind", "issuer"]
    list_filter = ["kind"]
    search_fields = ["name", "kind"]
    fieldsets = [(None, {"fields": ["name", "kind", "options"]})]

    @admin.display(description=_("issuer"))
    def issuer(self, guard: Guard) -> str:
        """Return the issuer whose tokens the guard accepts."""
        return str(guard.options.get("issuer") or "") if isinstance(guard.options, dict) else ""
