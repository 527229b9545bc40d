"""The export: a gateway in, a zilla.yaml and a report out.

What is written is imported again, in memory, and compared with the gateway: the report names everything that would not come
back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kafkaproxy.models import Gateway
from kafkaproxy.specs.types import ConditionSpec, EntrySpec, RouteSpec
from kafkaproxy.zilla.exporter.document import document_of, servers_of
from kafkaproxy.zilla.exporter.http_server import levels_of
from kafkaproxy.zilla.exporter.limits import DIALECTS, limited
from kafkaproxy.zilla.exporter.stored import guard_names, plan_of, read_gateway, report_losses
from kafkaproxy.zilla.importer.importing import Options, plan_text
from kafkaproxy.zilla.plan import SAID, GatewayPlan, GuardPlan, Plan
from kafkaproxy.zilla.report import ExportReport, Finding, Verdict
from kafkaproxy.zilla.yaml.write import to_yaml

__all__ = ["DIALECTS", "Export", "differences", "export_gateway", "export_plan", "renamed"]

Facts = dict[tuple[str, str], Any]


def differences(wanted: Plan, found: Plan) -> Iterator[tuple[str, str]]:
    """Return what differs, as subject and field; the subjects have the names of ``wanted``."""
    subjects = _subjects(wanted)
    one, other = _facts(wanted), _facts(found)
    for key in dict.fromkeys((*one, *other)):
        if one.get(key) != other.get(key):
            subject, field = key
            yield subjects.get(subject, subject), field


def renamed(wanted: Plan, found: Plan) -> Iterator[tuple[str, str]]:
    """Return the old and the new names of entries and routes that an import would name differently."""
    pairs = zip(_subjects(wanted).values(), _subjects(found).values(), strict=False)
    yield from ((old, new) for old, new in pairs if old != new)


def _subjects(plan: Plan) -> dict[str, str]:
    """Return the names of entries and routes by their numbers."""
    found: dict[str, str] = {}
    for number, entry in enumerate(plan.gateways[0].entries):
        found[f"entry {number}"] = f"entry {plan.gateways[0].name}/{entry.name}"
        for index, route in enumerate(entry.routes):
            found[f"route {number}/{index}"] = f"route {plan.gateways[0].name}/{entry.name}/{route.name}"
    return found


def _facts(plan: Plan) -> Facts:
    """Return each value under its subject and field."""
    clusters = {cluster.origin: cluster.name for cluster in plan.clusters}
    facts: Facts = {}
    for cluster in plan.clusters:
        facts |= {(f"cluster {cluster.name}", name): getattr(cluster, name) for name in SAID["cluster"]}
        facts[f"cluster {cluster.name}", "bootstrap_servers"] = servers_of(cluster.bootstrap_servers)
    for topic in plan.topics:
        subject = f"topic {clusters[topic.cluster]}/{topic.name}"
        facts[subject, "bootstrap"] = topic.bootstrap
        facts[subject, "default_offset"] = topic.default_offset
    for guard in plan.guards:
        options = {name: value for name, value in guard.options.items() if name != "allow_http"}
        facts[f"guard {guard.name}", "options"] = (guard.kind, options)
    facts |= _gateway(plan.gateways[0])
    for number, entry in enumerate(plan.gateways[0].entries):
        facts |= _entry(entry, number)
        for index, route in enumerate(entry.routes):
            facts |= _route(route, f"route {number}/{index}", plan.gateways[0], clusters)
    return facts


def _gateway(plan: GatewayPlan) -> Facts:
    return {(f"gateway {plan.name}", name): getattr(plan, name) for name in SAID["gateway"] if name != "cluster"}


def _entry(plan: EntrySpec, number: int) -> Facts:
    subject = f"entry {number}"
    return {(subject, "conditions"): levels_of(plan), (subject, "guarded"): plan.guarded}


def _route(plan: RouteSpec, subject: str, gateway: GatewayPlan, clusters: Mapping[str, str]) -> Facts:
    facts = {(subject, name): getattr(plan, name) for name in SAID["route"]}
    facts[subject, "cluster"] = clusters[gateway.cluster_of(plan)]
    facts[subject, "conditions"] = () if plan.conditions == (ConditionSpec(),) else plan.conditions
    return facts


_MOST_NAMES: Final = 5
_FILE: Final = "zilla.yaml"
_DECIDING: Final = frozenset({"guarded", "filters", "access_control", "guard", "options", "topic"})
"""Fields that decide which client gets what: a file without one of them is never written."""


@dataclass(frozen=True, slots=True)
class Export:
    """A zilla.yaml and what there is to say about it. ``text`` is empty where anything was refused."""

    text: str
    report: ExportReport

    @property
    def is_refused(self) -> bool:
        """Return True if there is no file."""
        return self.report.is_refused()

    @property
    def is_lossy(self) -> bool:
        """Return True if something is left out that the user has to allow."""
        return bool(self.report.of(Verdict.LOST))


def export_gateway(gateway: Gateway, dialect: int = 1) -> Export:
    """Return the zilla.yaml of a gateway for Zilla 1.x or 2.x. Nothing is written anywhere."""
    report = ExportReport()
    spec = read_gateway(gateway.name)
    plan = plan_of(spec)
    report_losses(gateway, spec, plan, report)
    return export_plan(plan, dialect, report)


def export_plan(plan: Plan, dialect: int, report: ExportReport) -> Export:
    """Do as :func:`export_gateway` with what a gateway was read into."""
    if not any(entry.routes for entry in plan.gateways[0].entries):
        message = "It has no route that is enabled: there is nothing that Zilla could serve."
        report.refuse(f"gateway {plan.gateways[0].name}", message, "Add or enable a route.")
        return Export("", report)
    plan = limited(plan, dialect, report)
    if not report.is_refused():
        document = document_of(plan, dialect, report)
        _check(plan, dialect, report)
    if report.is_refused():
        return Export("", report)
    return Export(to_yaml(document, _heading(plan, report)), report)


def _check(plan: Plan, dialect: int, report: ExportReport) -> None:
    """Import the file, and report what would be different."""
    wanted = _importable(plan)
    text = to_yaml(document_of(wanted, dialect, ExportReport()))
    found, imported = plan_text(text, _FILE, Options())
    for finding in imported.of(Verdict.REFUSED):
        message = f"It cannot be said in a zilla.yaml: {finding.message}"
        report.refuse(f"gateway {plan.gateways[0].name}", message, finding.advice)
    if imported.is_refused():
        return
    for subject, field in differences(wanted, found):
        say = report.refuse if field in _DECIDING else report.lose
        say(subject, f"{field} would not come back from the file as it is.")
    _report_names(list(renamed(wanted, found)), report)


def _report_names(pairs: list[tuple[str, str]], report: ExportReport) -> None:
    if pairs:
        shown = [f"{old} as {new.rpartition('/')[2]}" for old, new in pairs[:_MOST_NAMES]]
        more = f" and {len(pairs) - _MOST_NAMES} more" if len(pairs) > _MOST_NAMES else ""
        message = f"Entries and routes have no names in a zilla.yaml. An import names {', '.join(shown)}{more}."
        report.warn("names", message)


def _importable(plan: Plan) -> Plan:
    """Return the plan as an import can read it: with its undefined guards, and without CA stores, which do not exist yet."""
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


def _heading(plan: Plan, report: ExportReport) -> Iterator[str]:
    """Yield comments that say where the file is from, and what is not in it."""
    yield f"The gateway {plan.gateways[0].name} of kafkaproxy, written by manage.py exportzilla."
    yield from _listed("Left out:", report.of(Verdict.LOST))
    yield from _listed("To know:", report.of(Verdict.WARNING))


def _listed(title: str, found: Sequence[Finding[str]]) -> Iterator[str]:
    if found:
        yield title
        yield from (f"- {each}" for each in found)
