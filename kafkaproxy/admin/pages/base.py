"""What the pages that are neither a list nor a form of a model have in common."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from kafkaproxy.admin.forms.generic import ModelAdmin

__all__ = ["page_context"]


def page_context(admin: ModelAdmin, request: HttpRequest, title: str) -> dict[str, Any]:
    """Return the site's context, the title, and whether the user may see the list, to which the page links back."""
    return {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": title,
        "may_list": admin.has_view_or_change_permission(request),
    }
