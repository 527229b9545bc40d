"""Base classes of the models: saves that raise the version, rows with a unique name, and rows with a position."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from django.db import models, router, transaction
from django.utils.translation import gettext_lazy as _

from kafkaproxy.validators import validate_name

__all__ = ["ChildManager", "ConfigModel", "Named", "NamedManager", "Ordered"]

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


class ConfigModel(models.Model):
    """A part of the configuration. ``save()`` writes the row and the new version in one transaction."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save in a transaction, so that no process sees the change without its version (``kafkaproxy.routing.announce``)."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using, savepoint=False):
            super().save(*args, **kwargs)


class Named(ConfigModel):
    """A row with a unique name."""

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


class Ordered(ConfigModel):
    """A row whose place among its siblings matters: lower positions are tried, or written, first.

    Two siblings may share a position: the older one comes first. For the rows of an entry or a route that makes natural keys
    ambiguous, which a system check says.
    """

    position = models.PositiveIntegerField(
        _("position"), default=None, blank=True, help_text=_("Lower positions come first. Empty: last.")
    )

    sibling_fields: ClassVar[tuple[str, ...]] = ()
    """The fields that siblings have in common."""

    class Meta:
        abstract = True
        ordering = ["position", "pk"]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Put a row without a position behind its siblings. ``bulk_create`` does not: give it positions."""
        if _is_unset(self.position):
            self.position = self._next_position(kwargs.get("using"))
        super().save(*args, **kwargs)

    def _next_position(self, using: str | None) -> int:
        together = {name: getattr(self, name) for name in self.sibling_fields}
        siblings = type(self)._default_manager.using(using).filter(**together)  # noqa: SLF001 (public, says Django)
        last: int | None = siblings.aggregate(last=models.Max("position"))["last"]
        return 0 if last is None else last + 1


def _is_unset(value: object) -> bool:
    return value is None
