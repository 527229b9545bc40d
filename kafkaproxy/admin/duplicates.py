"""Deep copies of gateways, entries and routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import CASCADE

from kafkaproxy.models import Entry, Gateway, Route

__all__ = ["duplicate", "free_name"]

CopiedT = TypeVar("CopiedT", Gateway, Entry, Route)


def duplicate(original: CopiedT) -> CopiedT:
    """Copy it with everything that belongs to it: disabled, last among its siblings, and with a name that is free."""
    changes = {"name": free_name(original), "position": None, "enabled": False}
    with transaction.atomic():
        copied: CopiedT = _copy(original, changes)
    return copied


def free_name(original: Gateway | Entry | Route) -> str:
    """Return ``NAME-copy``, or ``NAME-copy-2`` and so on, that no sibling has."""
    together = {name: getattr(original, name) for name in original.sibling_fields}
    siblings = type(original).objects.filter(**together)
    taken = set(siblings.values_list("name", flat=True))
    return next(name for name in _copy_names(original.name) if name not in taken)


def _copy_names(name: str) -> Iterator[str]:
    number = 1
    while True:
        suffix = "-copy" if number == 1 else f"-copy-{number}"
        yield name[: 100 - len(suffix)] + suffix
        number += 1


def _copy(original: Any, changes: dict[str, Any]) -> Any:
    meta = original._meta  # noqa: SLF001 - Django's documented API
    values = {each.attname: getattr(original, each.attname) for each in meta.concrete_fields if not each.primary_key}
    copy = type(original)(**values | changes)
    copy.save(force_insert=True)
    for relation in meta.related_objects:
        if relation.on_delete is CASCADE:
            for child in relation.related_model.objects.filter(**{relation.field.name: original}):
                _copy(child, {relation.field.attname: copy.pk})
    return copy
