"""Plan an import for the admin, and apply what was seen: all of it in one transaction, each change in the history."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils.translation import gettext as _

from kafkaproxy.specs.to_rows import find_row
from kafkaproxy.zilla.importer.describe import describe
from kafkaproxy.zilla.importer.importing import Options, plan_text
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import Report, Verdict
from kafkaproxy.zilla.sync.apply import Refused, apply_plan, preview
from kafkaproxy.zilla.sync.changes import Action, Change, Changes, digest

__all__ = ["Outcome", "apply_seen", "prepare"]

_FLAGS: Final = {
    Action.CREATE: ADDITION,
    Action.UPDATE: CHANGE,
    Action.RESET: CHANGE,
    Action.DELETE: DELETION,
}


class _SetVariables(Mapping[str, str]):
    """Knows which environment variables are set, and tells no value: whoever may import may not read them all."""

    def __contains__(self, name: object) -> bool:
        return name in os.environ

    def __getitem__(self, name: str) -> str:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an import would do."""

    plan: Plan
    report: Report
    changes: Changes | None
    """None where anything was refused."""
    refusals: tuple[str, ...]
    seen: str
    """A keyed digest of the text and of all changes: what was looked at is what is applied."""

    @property
    def described(self) -> str:
        """The plan in words, a line for each rule."""
        return "\n".join(describe(self.plan))

    @property
    def variables(self) -> list[tuple[str, str, bool]]:
        """The environment variables that are referred to: where, which, and whether they are set here."""
        return [(str(place), name, name in os.environ) for name, place in self.report.variables.items()]

    @property
    def warnings(self) -> list[str]:
        """What one should know."""
        return [str(each) for each in self.report.of(Verdict.WARNING)]

    @property
    def ignored(self) -> list[str]:
        """What is left out because no client would notice."""
        return [str(each) for each in self.report.of(Verdict.IGNORED)]

    @property
    def groups(self) -> list[tuple[str, list[Change]]]:
        """The changes without a conflict, by what happens."""
        titles = {
            _("Created"): (Action.CREATE,),
            _("Changed"): (Action.UPDATE, Action.RESET),
            _("Removed"): (Action.DELETE,),
            _("No longer in the file, and kept"): (Action.KEEP,),
        }
        plain = [] if self.changes is None else [each for each in self.changes.visible if not each.conflict]
        found = [(title, [each for each in plain if each.action in actions]) for title, actions in titles.items()]
        return [(title, changes) for title, changes in found if changes]


def prepare(text: str, file: str, gateway: str, cluster: str) -> Outcome:
    """Return what importing the text would do. Nothing is written, and no file is read."""
    plan, report = plan_text(text, file, Options(gateway=gateway, cluster=cluster, environ=_SetVariables()))
    refusals = [str(each) for each in report.of(Verdict.REFUSED)]
    changes: Changes | None = None
    if not refusals:
        try:
            changes = preview(plan)
        except Refused as error:
            refusals.append(str(error))
    return Outcome(plan, report, changes, tuple(refusals), _digest(text, changes))


def _digest(text: str, changes: Changes | None) -> str:
    found = changes.changes if changes is not None else ()
    return digest([text, [[str(each), each.conflict, each.fields, each.old] for each in found]])


def apply_seen(outcome: Outcome, user: Any, *, overwrite: bool) -> int:
    """Make the changes and note each in the history; return how many. Raise ``Refused`` where that is not what was seen."""
    with transaction.atomic():
        found = preview(outcome.plan)
        if outcome.changes is None or found.changes != outcome.changes.changes:
            raise Refused(_("Somebody changed the configuration meanwhile: look at the changes again."))
        noted = [each for each in found.visible if each.action in _FLAGS]
        gone = {(each.kind, each.key): find_row(each.kind, each.key) for each in noted if each.action is Action.DELETE}
        doomed = {key: (row, row.pk, str(row)) for key, row in gone.items() if row is not None}
        apply_plan(outcome.plan, overwrite=overwrite)
        for change in noted:
            row, pk, text = doomed.get((change.kind, change.key)) or _found(change)
            _note(change, row, pk, text, user)
    return len(noted)


def _found(change: Change) -> tuple[Any, Any, str]:
    row = find_row(change.kind, change.key)
    return row, row.pk, str(row)


def _note(change: Change, row: Any, pk: Any, text: str, user: Any) -> None:
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(row),
        object_id=str(pk),
        object_repr=text[:200],
        action_flag=_FLAGS[change.action],
        change_message=_message(change),
    )


def _message(change: Change) -> str:
    """Say what happened; of fields only the names, for a value may be a secret."""
    if change.action is Action.CREATE:
        return _("Imported from a zilla.yaml (%(source)s).") % {"source": change.source}
    if change.action is Action.DELETE:
        return _("Removed by an import: it is not in the zilla.yaml.")
    fields = ", ".join(change.new or change.fields)
    return _("Changed by an import of a zilla.yaml: %(fields)s.") % {"fields": fields}
