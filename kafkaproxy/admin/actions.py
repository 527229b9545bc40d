"""The actions enable, disable and duplicate (a deep copy) of gateways, entries and routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import CASCADE, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from kafkaproxy.admin.base import ConfigAdmin, changed_objects
from kafkaproxy.models import Entry, Gateway, Route
from kafkaproxy.signals import touch

__all__ = ["SwitchAdmin", "duplicate", "free_name"]


class SwitchAdmin(ConfigAdmin):
    """Rows that can be switched on and off and copied whole."""

    actions = ["enable", "disable", "duplicate"]

    @admin.action(description=gettext_lazy("Enable the selected %(verbose_name_plural)s"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Switch on."""
        count = self._switch(request, queryset, to=True)
        messages.success(request, ngettext("%(n)d was enabled.", "%(n)d were enabled.", count) % {"n": count})

    @admin.action(description=gettext_lazy("Disable the selected %(verbose_name_plural)s"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Switch off."""
        count = self._switch(request, queryset, to=False)
        messages.success(request, ngettext("%(n)d was disabled.", "%(n)d were disabled.", count) % {"n": count})

    @admin.action(description=gettext_lazy("Duplicate the selected %(verbose_name_plural)s"), permissions=["add"])
    def duplicate(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Copy, disabled, under new names."""
        with transaction.atomic():
            for original in queryset:
                copy = duplicate(original)
                self.log_addition(request, copy, _("Copied from “%(original)s”.") % {"original": original})
                messages.success(
                    request,
                    _("“%(original)s” was copied to “%(copy)s”, which is disabled.") % {"original": original, "copy": copy},
                )
            touch()

    def _switch(self, request: HttpRequest, queryset: QuerySet[Any], *, to: bool) -> int:
        """Set ``enabled`` where it differs; return how many rows changed."""
        with transaction.atomic():
            rows = list(queryset.exclude(enabled=to))
            queryset.filter(pk__in=[row.pk for row in rows]).update(enabled=to)
            for row in rows:
                self.log_change(request, row, [{"changed": {"fields": ["enabled"]}}])
            touch()
        changed_objects(request).extend(rows)
        return len(rows)


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
