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
    def bump(cls, change: uuid.UUID | None = None, *, using: str | None = None) -> None:
        """Raise the version in the current transaction, once for each ``change``.

        The same change twice raises it once, unless a savepoint took the first time back.
        """
        change = change or uuid.uuid4()
        rows = cls.objects.using(using).filter(pk=1)
        if _raise(rows, change) or rows.exists():
            return
        _row, created = cls.objects.using(using).get_or_create(pk=1, defaults={"version": 1, "change": change})
        if not created:  # another transaction made the row first
            _raise(rows, change)


def _raise(rows: models.QuerySet[ConfigVersion], change: uuid.UUID) -> int:
    return rows.exclude(change=change).update(version=models.F("version") + 1, change=change)
