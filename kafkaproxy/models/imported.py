"""What an import made, so that the next one can tell an edited file from a change by hand."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["ImportedObject"]


class ImportedObject(models.Model):
    """One object that a file made or uses. Only digests of its fields are kept: a value may be a secret."""

    source = models.CharField(_("source"), max_length=100, help_text=_("The namespace of the file, or the name given instead."))
    kind = models.CharField(_("kind"), max_length=20)
    key = models.CharField(_("key"), max_length=400, help_text=_("The names that the object is found by."))
    origin = models.CharField(_("origin"), max_length=400, blank=True, help_text=_("What it is in the file."))
    digests = models.JSONField(
        _("digests"), default=dict, help_text=_("By field, of what was imported. Empty: used, and not made, by this source.")
    )

    class Meta:
        verbose_name = _("imported object")
        verbose_name_plural = _("imported objects")
        constraints = [models.UniqueConstraint(fields=["source", "kind", "key"], name="kafkaproxy_imported_unique")]

    def __str__(self) -> str:
        return f"{self.source}: {self.kind} {self.key}"
