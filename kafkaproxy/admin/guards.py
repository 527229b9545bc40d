"""The admin of guards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from kafkaproxy.admin.base import ConfigAdmin
from kafkaproxy.admin.forms.secrets import SecretsAdminMixin, SecretsForm
from kafkaproxy.guard_kinds import kinds
from kafkaproxy.models import Guard

__all__ = ["GuardAdmin"]


_KINDS: Final[Mapping[str, Any]] = {
    "jwt": _("jwt: a signed token of an issuer"),
    "simplejwt": _("simplejwt: an access token that this site issued"),
    "session": _("session: the session of this site's users"),
}


class GuardForm(SecretsForm):
    """A guard, whose kind is one of those that are known; one that is not known any more stays until it is changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "kind" in self.fields:
            self.fields["kind"].help_text = ""  # the choices say it
            known = [*_KINDS, *(kind for kind in kinds() if kind not in _KINDS)]
            stored = [self.instance.kind] if self.instance.kind not in known else []
            self.fields["kind"].widget = forms.Select(choices=[(kind, _KINDS.get(kind, kind)) for kind in [*known, *stored]])


@admin.register(Guard)
class GuardAdmin(SecretsAdminMixin, ConfigAdmin):
    """ConfiguredGuards."""

    form = GuardForm
    empty_text = _(
        "A guard identifies a client: by the tokens of an issuer, or by the session of this site. "
        "Routes and entries require guards; without one they are open to every client."
    )
    masked_fields = ("options",)
    list_display = ["name", "kind", "issuer"]
    list_filter = ["kind"]
    search_fields = ["name", "kind"]
    fieldsets = [
        (
            None,
            {
                "fields": ["name", "kind", "options"],
                "description": _(
                    'Options of jwt: at least the issuer and the audience, {"issuer": "https://…", "audience": "…"}. '
                    "The gateway says where the token is. simplejwt and session need no options."
                ),
            },
        )
    ]

    @admin.display(description=_("issuer"))
    def issuer(self, guard: Guard) -> str:
        """Return the issuer whose tokens the guard accepts."""
        return str(guard.options.get("issuer") or "") if isinstance(guard.options, dict) else ""
