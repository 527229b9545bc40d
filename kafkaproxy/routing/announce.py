"""Changes of the configuration, announced to every process: each one raises the version in its own transaction.

This process loads the new version when that transaction commits; the others find it when they next look at the database.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from django.apps import apps
from django.db import router, transaction
from django.db.models.signals import post_delete, post_save

from kafkaproxy.models.base import ConfigModel
from kafkaproxy.models.version import ConfigVersion
from kafkaproxy.routing.live import live

__all__ = ["touch"]


def connect() -> None:
    """Follow saves and deletes of the configuration models."""
    post_save.connect(_version_saved, sender=ConfigVersion, dispatch_uid="kafkaproxy.version")
    for model in apps.get_app_config("kafkaproxy").get_models():
        if issubclass(model, ConfigModel):
            post_save.connect(_changed, sender=model, dispatch_uid="kafkaproxy.saved")
            post_delete.connect(_changed, sender=model, dispatch_uid="kafkaproxy.deleted")


def touch(using: str | None = None) -> None:
    """Announce, in the current transaction, that the configuration changed; every process reloads once it commits.

    Saves and deletes are announced by themselves. Call this after what sends no signals: ``queryset.update()``,
    ``bulk_create()``, ``bulk_update()``, raw SQL, and in data migrations. ``using`` is the alias of the database, by default
    the one that the site's routers choose for writing.
    """
    alias = using or router.db_for_write(ConfigVersion)
    ConfigVersion.bump(using=alias)
    transaction.on_commit(_pending.reload_once(alias), using=alias, robust=True)


class _Reload:
    """Loads the configuration when a transaction commits, however often it was registered in it."""

    def __init__(self) -> None:
        self.is_done = False
        self.__qualname__ = type(self).__qualname__  # Django logs it where the call fails

    def __call__(self) -> None:
        """Load the new version at once, if this process serves."""
        if not self.is_done:
            self.is_done = True
            if live().started:
                live().refresh()


class _Pending(threading.local):
    """The reload that the next commit of this thread makes, by database; Django's connections belong to a thread too.

    Django offers no way to ask whether a callback is registered already, and forgets it with a savepoint that is rolled back.
    So every change registers the callback, and the first call of many does the work. One that a rollback left over is used
    again by the next transaction.
    """

    def __init__(self) -> None:
        self._reloads: dict[str, _Reload] = {}

    def reload_once(self, alias: str) -> _Reload:
        """Return the reload of the current transaction."""
        reload = self._reloads.get(alias)
        if reload is None or reload.is_done:
            reload = self._reloads[alias] = _Reload()
        return reload


_pending: Final = _Pending()


def _changed(*, using: str, **_kwargs: Any) -> None:
    touch(using)


def _version_saved(*, raw: bool, using: str, **_kwargs: Any) -> None:
    """Keep a fixture that holds a version from taking processes back to a number that they have already seen."""
    if raw:
        touch(using)
