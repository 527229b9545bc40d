"""``manage.py importzilla FILE``: make gateways of a zilla.yaml."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.importer.importing import Options, plan_file
from kafkaproxy.zilla.plan import Plan, describe
from kafkaproxy.zilla.report import Finding, ImportReport, Verdict
from kafkaproxy.zilla.sync.apply import ImportRefused, apply_plan, preview
from kafkaproxy.zilla.sync.changes import Changes

__all__ = ["Command"]


class Command(BaseCommand):
    """Import a zilla.yaml in one transaction; nothing is applied if anything in it is refused."""

    help = _("Make gateways, clusters and guards of a zilla.yaml. What is not understood is an error that names the line.")

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("file", type=Path, help=_("a zilla.yaml, a part of one, or a Compose file that holds one"))
        parser.add_argument("--gateway", default="", metavar="NAME", help=_("the gateway's name, instead of the file's"))
        parser.add_argument("--cluster", default="", metavar="NAME", help=_("an existing cluster, for a part without one"))
        parser.add_argument(
            *("--env",),
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=_("a value to check ${{env.NAME}} with; it is not stored"),
        )
        help_text = _("expand API specifications although their schemas are not checked here")
        parser.add_argument("--without-schemas", action="store_true", help=help_text)
        parser.add_argument("--dry-run", action="store_true", help=_("show what would be done, and do nothing"))
        parser.add_argument("--overwrite", action="store_true", help=_("let the file win over what was changed by hand"))

    def handle(self, *_args: Any, **options: Any) -> None:
        """Import; raise ``CommandError``, which exits with 1, if nothing was applied."""
        environ = {**os.environ, **_variables(options["env"])}
        schemas = not options["without_schemas"]
        given = Options(gateway=options["gateway"], cluster=options["cluster"], environ=environ, schemas=schemas)
        plan, report = plan_file(options["file"], given)
        self._show(plan, report, environ, options["verbosity"])
        if report.is_refused():
            raise CommandError(_("Nothing was imported."))
        self._import(plan, dry_run=options["dry_run"], overwrite=options["overwrite"], verbosity=options["verbosity"])

    def _show(self, plan: Plan, report: ImportReport, environ: Mapping[str, str], verbosity: int) -> None:
        if verbosity > 0:
            for line in describe(plan):
                self.stdout.write(line)
            for name, place in report.variables.items():
                self.stdout.write(f"variable  {place}: {name}" + ("" if name in environ else _(", not set here")))
            for finding in report.of(Verdict.IGNORED):
                self.stdout.write(_line(finding))
            for finding in report.of(Verdict.WARNING):
                self.stdout.write(self.style.WARNING(_line(finding)))
        for finding in report.of(Verdict.REFUSED):
            self.stderr.write(_line(finding))

    def _import(self, plan: Plan, *, dry_run: bool, overwrite: bool, verbosity: int) -> None:
        try:
            changes = preview(plan)
            self._show_changes(changes, verbosity)
            if changes.conflicts and not overwrite:
                raise ImportRefused(_("What was changed by hand would be overwritten: use --overwrite if the file is right."))
            if not dry_run:
                changes = apply_plan(plan, overwrite=overwrite)
        except ImportRefused as error:
            raise CommandError(str(error)) from error
        if verbosity > 0:
            self.stdout.write(self.style.SUCCESS(_summary(changes, dry_run=dry_run)))

    def _show_changes(self, changes: Changes, verbosity: int) -> None:
        for change in changes.visible:
            if change.conflict:
                self.stderr.write(f"conflict  {change}. {change.conflict}")
            elif verbosity > 0:
                self.stdout.write(str(change))


def _variables(given: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if wrong := [name for name, equals, _value in pairs if not (name and equals)]:
        raise CommandError(_("--env takes NAME=VALUE, not %(given)s.") % {"given": ", ".join(wrong)})
    return {name: value for name, _equals, value in pairs}


def _line(finding: Finding[FilePlace]) -> str:
    return f"{finding.verdict}  {finding}"


def _summary(changes: Changes, *, dry_run: bool) -> str:
    number = len(changes.visible)
    if not number:
        return _("Nothing to change: everything is as in the file.")
    text = _("%(number)d changes would be made.") if dry_run else _("%(number)d changes made.")
    return text % {"number": number}
