"""The export: a gateway in, a zilla.yaml and remarks out.

Whatever is written is imported again, in memory, and compared with the gateway: what would not come back is never left unsaid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from kafkaproxy.models import Gateway
from kafkaproxy.zilla.exporter.compare import differences, renamed
from kafkaproxy.zilla.exporter.document import document_of
from kafkaproxy.zilla.exporter.limits import DIALECTS, limited
from kafkaproxy.zilla.exporter.remarks import Remark, Remarks, Severity
from kafkaproxy.zilla.exporter.stored import guard_names, plan_of, read_gateway, report_losses
from kafkaproxy.zilla.importer.importing import Options, plan_text
from kafkaproxy.zilla.plan import GuardPlan, Plan
from kafkaproxy.zilla.report import Verdict
from kafkaproxy.zilla.yaml.write import to_yaml

__all__ = ["DIALECTS", "Export", "export_gateway", "export_plan"]

_MOST_NAMES: Final = 5
_FILE: Final = "zilla.yaml"
_DECIDING: Final = frozenset({"guarded", "filters", "access_control", "guard", "options", "topic"})
"""Fields that decide which client gets what: a file without one of them is never written."""


@dataclass(frozen=True, slots=True)
class Export:
    """A zilla.yaml and what there is to say about it. ``text`` is empty where anything was refused."""

    text: str
    remarks: tuple[Remark, ...]

    @property
    def is_refused(self) -> bool:
        """Whether there is no file."""
        return any(each.severity is Severity.REFUSED for each in self.remarks)

    @property
    def is_lossy(self) -> bool:
        """Whether something is left out that needs an explicit word."""
        return any(each.severity is Severity.LOST for each in self.remarks)


def export_gateway(gateway: Gateway, dialect: int = 1) -> Export:
    """Return the zilla.yaml of a gateway for Zilla 1.x or 2.x. Nothing is written anywhere."""
    remarks = Remarks()
    spec = read_gateway(gateway.name)
    plan = plan_of(spec)
    report_losses(gateway, spec, plan, remarks)
    return export_plan(plan, dialect, remarks)


def export_plan(plan: Plan, dialect: int, remarks: Remarks) -> Export:
    """Do as :func:`export_gateway` with what a gateway was read into."""
    if not any(entry.routes for entry in plan.gateways[0].entries):
        message = "It has no route that is enabled: there is nothing that Zilla could serve."
        remarks.refuse(f"gateway {plan.gateways[0].name}", message, "Add or enable a route.")
        return Export("", tuple(remarks.found))
    plan = limited(plan, dialect, remarks)
    if not remarks.of(Severity.REFUSED):
        document = document_of(plan, dialect, remarks)
        _check(plan, dialect, remarks)
    if remarks.of(Severity.REFUSED):
        return Export("", tuple(remarks.found))
    return Export(to_yaml(document, _heading(plan, remarks)), tuple(remarks.found))


def _check(plan: Plan, dialect: int, remarks: Remarks) -> None:
    """Import the file, and report what would be different."""
    wanted = _importable(plan)
    text = to_yaml(document_of(wanted, dialect, Remarks()))
    found, report = plan_text(text, _FILE, Options())
    for finding in report.of(Verdict.REFUSED):
        message = f"It cannot be said in a zilla.yaml: {finding.message}"
        remarks.refuse(f"gateway {plan.gateways[0].name}", message, finding.advice)
    if report.is_refused():
        return
    for subject, field in differences(wanted, found):
        say = remarks.refuse if field in _DECIDING else remarks.lose
        say(subject, f"{field} would not come back from the file as it is.")
    _report_names(list(renamed(wanted, found)), remarks)


def _report_names(pairs: list[tuple[str, str]], remarks: Remarks) -> None:
    if pairs:
        shown = [f"{old} as {new.rpartition('/')[2]}" for old, new in pairs[:_MOST_NAMES]]
        more = f" and {len(pairs) - _MOST_NAMES} more" if len(pairs) > _MOST_NAMES else ""
        message = f"Entries and routes have no names in a zilla.yaml. An import names {', '.join(shown)}{more}."
        remarks.warn("names", message)


def _importable(plan: Plan) -> Plan:
    """Return the plan with everything that an import looks for: guards left undefined, and stores to be made later."""
    source = plan.gateways[0].name
    known = {guard.name for guard in plan.guards}
    options = {"issuer": "https://example.com", "audience": "example"}
    closed = [
        GuardPlan(source=source, name=name, kind="jwt", options=options)
        for name in guard_names(plan.gateways[0])
        if name not in known
    ]
    clusters = tuple(replace(each, ssl_ca="") for each in plan.clusters)
    return replace(plan, guards=(*plan.guards, *closed), clusters=clusters)


def _heading(plan: Plan, remarks: Remarks) -> Iterator[str]:
    """Return comments that say where the file is from, and what is not in it."""
    yield f"The gateway {plan.gateways[0].name} of kafkaproxy, written by manage.py exportzilla."
    yield from _listed("Left out:", remarks.of(Severity.LOST))
    yield from _listed("To know:", remarks.of(Severity.WARNING))


def _listed(title: str, remarks: Iterable[Remark]) -> Iterator[str]:
    found = list(remarks)
    if found:
        yield title
        yield from (f"- {each}" for each in found)
