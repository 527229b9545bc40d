"""``manage.py exportzilla GATEWAY``: write a gateway as a zilla.yaml."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from kafkaproxy.models import Gateway
from kafkaproxy.zilla.exporter.exporting import DIALECTS, Export, export_gateway

__all__ = ["Command"]


class Command(BaseCommand):
    """Export a gateway. What Zilla cannot say is an error without ``--lossy``."""

    help = _("Write a gateway as a zilla.yaml. What Zilla lacks is reported, and is an error without --lossy.")

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("gateway", metavar="GATEWAY", help=_("the gateway's name"))
        parser.add_argument("--dialect", type=int, choices=DIALECTS, default=1, help=_("Zilla's major version; default: 1"))
        parser.add_argument("--output", type=Path, metavar="FILE", help=_("where to write; default: standard output"))
        parser.add_argument("--lossy", action="store_true", help=_("write the file although something is left out of it"))

    def handle(self, *_args: Any, **options: Any) -> None:
        """Export; raise ``CommandError``, which exits with 1, if no file was written."""
        gateway = Gateway.objects.filter(name=options["gateway"]).first()
        if gateway is None:
            names = ", ".join(Gateway.objects.values_list("name", flat=True)) or _("none")
            text = _("There is no gateway %(name)s. Known are: %(names)s.")
            raise CommandError(text % {"name": options["gateway"], "names": names})
        export = export_gateway(gateway, options["dialect"])
        self._show(export)
        if export.is_refused:
            raise CommandError(_("Nothing was written."))
        if export.is_lossy and not options["lossy"]:
            raise CommandError(_("Nothing was written: use --lossy if what is listed may be left out."))
        self._write(export.text, options["output"])

    def _show(self, export: Export) -> None:
        for line in export.report.lines():
            self.stderr.write(line)

    def _write(self, text: str, path: Path | None) -> None:
        if path is None:
            self.stdout.write(text, ending="")
            return
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            message = _("%(path)s cannot be written: %(reason)s.")
            raise CommandError(message % {"path": path, "reason": error.strerror}) from error
