"""From a plan to the models, in one transaction, and what to remember of it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import gettext as _

from kafkaproxy.models import ImportedObject
from kafkaproxy.specs.to_rows import delete_row, write_row
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.sync.changes import Action, Change, Changes, compare, digest
from kafkaproxy.zilla.sync.items import Item, missing_clusters

__all__ = ["ImportRefused", "apply_plan", "preview"]


class ImportRefused(Exception):
    """The import would overwrite changes made by hand, or needs a cluster that does not exist. Nothing was written."""


@dataclass(frozen=True, slots=True)
class _Record:
    """The record of an object that an import made or uses."""

    origin: str
    digests: dict[str, str]


def preview(plan: Plan) -> Changes:
    """Return what :func:`apply_plan` would do."""
    if missing := missing_clusters(plan):
        raise ImportRefused(
            _("There is no cluster %(missing)s: make it, or leave --cluster out.") % {"missing": ", ".join(missing)}
        )
    return compare(plan)


@transaction.atomic
def apply_plan(plan: Plan, *, overwrite: bool = False) -> Changes:
    """Apply the plan to the database; raise :class:`ImportRefused` if that would undo changes made by hand.

    With ``overwrite`` the file wins. A plan that the database already fits writes nothing at all.
    """
    changes = preview(plan)
    if changes.conflicts and not overwrite:
        raise ImportRefused(
            _("Somebody changed by hand what this import would overwrite: use --overwrite if the file is right.")
        )
    for change in changes.changes:
        _make(change)
    _remember(changes)
    return changes


def _make(change: Change) -> None:
    if change.action is Action.DELETE:
        delete_row(change.kind, change.key)
    elif change.writes is not None:
        write_row(change.kind, change.key, change.writes.spec, change.fields, change.writes.position)


def _remember(changes: Changes) -> None:
    """Update the records. Only differences are written: an import that changes nothing must not raise the version."""
    wanted = {(item.source, item.kind, item.key): _record(item, owned=owned) for item, owned in changes.items}
    sources = {item.source for item, _ in changes.items}
    for record in ImportedObject.objects.filter(source__in=sources):
        new = wanted.pop((record.source, record.kind, record.key), None)
        if new is None:
            record.delete()
        elif (record.origin, record.digests) != (new.origin, new.digests):
            record.origin, record.digests = new.origin, new.digests
            record.save()
    for (source, kind, key), new in wanted.items():
        ImportedObject.objects.create(source=source, kind=kind, key=key, origin=new.origin, digests=new.digests)


def _record(item: Item, *, owned: bool) -> _Record:
    digests = {name: digest(value) for name, value in item.fields.items()} if owned else {}
    return _Record(item.origin, digests)
