"""Guards: they tell the identity and the roles of a client."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from kafkaproxy.guard_kinds import check_guard
from kafkaproxy.models.base import Named, NamedManager

__all__ = ["Guard"]


class Guard(Named):
    """A way to authenticate. ``kind`` names a class registered with ``kafkaproxy.guards``; it checks ``options``."""

    kind = models.CharField(_("kind"), max_length=50, default="jwt", help_text=_("jwt, simplejwt or session."))
    options = models.JSONField(
        _("options"),
        default=dict,
        blank=True,
        help_text=_("Options of the kind, as JSON: issuer, audience, keys, roles, identity, attributes, challenge."),
    )

    objects = NamedManager["Guard"]()

    class Meta:
        verbose_name = _("guard")
        verbose_name_plural = _("guards")
        ordering = ["name"]

    def clean(self) -> None:
        """Check that the kind is known and accepts the options."""
        super().clean()
        if not isinstance(self.options, dict):
            raise ValidationError({"options": _('Write a JSON object: {"issuer": "https://…"}.')})
        check_guard(self.kind, self.options)
