"""Signals: a change of the configuration bumps its version and reloads this process.

``configuration_changed`` is sent when a new table is in service in this process, whichever process made the change, with
``configuration`` and ``generation``. Receivers run in the thread that loaded it.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.apps import apps
from django.db import connections, router, transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import Signal

__all__ = ["configuration_changed", "connect", "touch"]

configuration_changed = Signal()


def connect() -> None:
    """Connect the signals of the configuration models."""
    from kafkaproxy.models import ConfigVersion
    from kafkaproxy.models.base import ConfigModel

    post_save.connect(_version_saved, sender=ConfigVersion, dispatch_uid="kafkaproxy.version")
    for model in apps.get_app_config("kafkaproxy").get_models():
        if issubclass(model, ConfigModel):
            post_save.connect(_changed, sender=model, dispatch_uid="kafkaproxy.saved")
            post_delete.connect(_changed, sender=model, dispatch_uid="kafkaproxy.deleted")


def touch(using: str | None = None) -> None:
    """Announce, in the current transaction, that the configuration changed; every process reloads it after the commit.

    Saves and deletes announce themselves. Call this after operations that send no signals: ``queryset.update()``,
    ``bulk_create()``, ``bulk_update()``, raw SQL, and in data migrations. ``using``: the alias of the database.
    """
    from kafkaproxy.models import ConfigVersion

    alias = using or router.db_for_write(ConfigVersion)
    pending = _pending(alias)
    announcement = pending or _Announcement()
    ConfigVersion.bump(announcement.change, using=alias)
    if pending is None:
        transaction.on_commit(announcement, using=alias, robust=True)


class _Announcement:
    """The change that one transaction makes. Django drops it with the savepoint or transaction that is rolled back."""

    def __init__(self) -> None:
        self.change = uuid.uuid4()
        self.made = False
        self.__qualname__ = type(self).__qualname__  # Django logs this name if the call fails

    def __call__(self) -> None:
        """Load the change in this process at once, if it serves requests."""
        from kafkaproxy.routing.live import live

        self.made = True
        if live().started:
            live().refresh()


def _pending(using: str) -> _Announcement | None:
    callbacks = (entry[1] for entry in connections[using].run_on_commit)
    # One that was called already is still listed where a TestCase runs the callbacks inside its transaction.
    return next((each for each in callbacks if isinstance(each, _Announcement) and not each.made), None)


def _changed(*, using: str, **_kwargs: Any) -> None:
    touch(using)


def _version_saved(*, raw: bool, using: str, **_kwargs: Any) -> None:
    """Bump the version after a fixture was loaded: its number may be one that processes have already seen."""
    if raw:
        touch(using)
