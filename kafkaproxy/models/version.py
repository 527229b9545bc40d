"""The version of the configuration, one row that every change bumps in its own transaction."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["ConfigVersion"]


class ConfigVersion(models.Model):
    """A number that grows with every change. Processes poll it and rebuild their table when it moved.

    It is written in the transaction of the change, so whoever sees the number sees the change, whole.
    """

    version = models.PositiveBigIntegerField(_("version"), default=0)

    class Meta:
        verbose_name = _("configuration version")
        verbose_name_plural = _("configuration versions")

    def __str__(self) -> str:
        return str(self.version)

    @classmethod
    def current(cls) -> int:
        """Return the version, 0 where nothing was ever saved."""
        return cls.objects.filter(pk=1).values_list("version", flat=True).first() or 0

    @classmethod
    def bump(cls) -> None:
        """Raise the version in the current transaction."""
        if not cls.objects.filter(pk=1).update(version=models.F("version") + 1):
            cls.objects.get_or_create(pk=1, defaults={"version": 1})
