"""Signals: changes of the configuration raise its version and reload this process."""

from __future__ import annotations

import uuid
from typing import Any

from django.apps import apps
from django.db import connections, router, transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import Signal

__all__ = ["configuration_changed", "touch"]

configuration_changed = Signal()
"""A new configuration is in service in this process, wherever it was changed. Sent with ``configuration``, which is private,
and ``generation``, the number of configurations that were taken into service so far. Receivers run in the thread that loaded
it; what they raise is logged."""


def connect() -> None:
    """Follow saves and deletes of the configuration models."""
    from kafkaproxy.models import ConfigVersion
    from kafkaproxy.models.base import ConfigModel

    post_save.connect(_version_saved, sender=ConfigVersion, dispatch_uid="kafkaproxy.version")
    for model in apps.get_app_config("kafkaproxy").get_models():
        if issubclass(model, ConfigModel):
            post_save.connect(_changed, sender=model, dispatch_uid="kafkaproxy.saved")
            post_delete.connect(_changed, sender=model, dispatch_uid="kafkaproxy.deleted")


def touch(using: str | None = None) -> None:
    """Raise the version of the configuration, in the current transaction; every process reloads once that commits.

    Saves and deletes of rows do so by themselves. Call this after what sends no signals: ``queryset.update()``,
    ``bulk_create()``, ``bulk_update()``, raw SQL, and in data migrations. ``using`` is the alias of the database; by default
    the one that the router gives for writes.
    """
    from kafkaproxy.models import ConfigVersion

    alias = using or router.db_for_write(ConfigVersion)
    pending = _pending(alias)
    announcement = pending or _Announcement()
    ConfigVersion.bump(announcement.change, using=alias)
    if pending is None:
        transaction.on_commit(announcement, using=alias, robust=True)


class _Announcement:
    """The change that a transaction makes. Django forgets it with the savepoint or transaction that is rolled back."""

    def __init__(self) -> None:
        self.change = uuid.uuid4()
        self.made = False
        self.__qualname__ = type(self).__qualname__  # Django logs it where the call fails

    def __call__(self) -> None:
        """Serve the change in this process at once, if it serves."""
        from kafkaproxy.routing.live import live

        self.made = True
        if live().started:
            live().refresh()


def _pending(using: str) -> _Announcement | None:
    callbacks = (entry[1] for entry in connections[using].run_on_commit)
    # One that was made is still there where a TestCase runs the callbacks inside its transaction.
    return next((each for each in callbacks if isinstance(each, _Announcement) and not each.made), None)


def _changed(*, using: str, **_kwargs: Any) -> None:
    touch(using)


def _version_saved(*, raw: bool, using: str, **_kwargs: Any) -> None:
    """A fixture that holds a version must not take processes back to a number that they have already seen."""
    if raw:
        touch(using)
