"""Enable, disable and duplicate, for whatever has a place in the order of rules."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from kafkaproxy.admin.base import ConfigAdmin, changed_objects
from kafkaproxy.admin.duplicates import duplicate
from kafkaproxy.routing.announce import touch

__all__ = ["SwitchAdmin"]


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
        """Set ``enabled`` where it differs; return how many did."""
        with transaction.atomic():
            rows = list(queryset.exclude(enabled=to))
            queryset.filter(pk__in=[row.pk for row in rows]).update(enabled=to)
            for row in rows:
                self.log_change(request, row, [{"changed": {"fields": ["enabled"]}}])
            touch()
        changed_objects(request).extend(rows)
        return len(rows)
