"""What the models share: named things, and rows that have a place in their parent's order."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from kafkaproxy.validators import validate_name

__all__ = ["ChildManager", "Named", "NamedManager", "Ordered"]

NamedT = TypeVar("NamedT", bound="Named")
ModelT = TypeVar("ModelT", bound=models.Model)


class NamedManager(models.Manager[NamedT]):
    """Finds by natural key."""

    def get_by_natural_key(self, name: str) -> NamedT:
        """Return the row of that name."""
        return self.get(name=name)


class ChildManager(models.Manager[ModelT]):
    """Finds by the natural key of the parent plus the row's own part.

    ``natural_lookups`` of the model names the lookups of that whole key, outermost first.
    """

    def get_by_natural_key(self, *key: Any) -> ModelT:
        """Return the row of that key."""
        lookups: tuple[str, ...] = self.model.natural_lookups  # type: ignore[attr-defined]
        return self.get(**dict(zip(lookups, key, strict=True)))


class Named(models.Model):
    """Something with a unique name of its own."""

    name = models.CharField(
        _("name"),
        max_length=100,
        unique=True,
        validators=[validate_name],
        help_text=_("Letters, digits, '.', '_' and '-'; shown in metrics, logs and error bodies."),
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    def natural_key(self) -> tuple[str, ...]:
        """The name."""
        return (self.name,)


class Ordered(models.Model):
    """A row whose place among its siblings matters: lower positions are tried, or written, first."""

    position = models.PositiveIntegerField(_("position"), default=0, help_text=_("Lower positions come first."))

    class Meta:
        abstract = True
        ordering = ["position", "pk"]
