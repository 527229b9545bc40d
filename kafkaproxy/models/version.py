"""The version of the configuration, one row that every change bumps in its own transaction."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["ConfigVersion", "Stamp"]


class Stamp(NamedTuple):
    """Identifies a state of the configuration. A restore from a backup may repeat a version, but not the id of a change."""

    version: int
    change: uuid.UUID | None


class ConfigVersion(models.Model):
    """A number that grows with every change. Processes poll it and rebuild their table when it moved.

    It is written in the transaction of the change, so a process that sees the number sees the whole change.
    """

    version = models.PositiveBigIntegerField(_("version"), default=0)
    change = models.UUIDField(_("change"), default=uuid.uuid4, editable=False)

    class Meta:
        verbose_name = _("configuration version")
        verbose_name_plural = _("configuration versions")

    def __str__(self) -> str:
        return str(self.version)

    @classmethod
    def current(cls) -> int:
        """Return the version, 0 where nothing was ever saved."""
        return cls.stamp().version

    @classmethod
    def stamp(cls) -> Stamp:
        """Return the version and the identity of the change that made it."""
        found = cls.objects.filter(pk=1).values_list("version", "change").first()
        return Stamp(0, None) if found is None else Stamp(*found)

    @classmethod
    def bump(cls, *, using: str | None = None) -> None:
        """Raise the version in the current transaction, and give it a new identity."""
        rows = cls.objects.using(using).filter(pk=1)
        if not _raise(rows):
            _row, created = cls.objects.using(using).get_or_create(pk=1, defaults={"version": 1})
            if not created:  # another transaction made the row first
                _raise(rows)


def _raise(rows: models.QuerySet[ConfigVersion]) -> int:
    return rows.update(version=models.F("version") + 1, change=uuid.uuid4())
