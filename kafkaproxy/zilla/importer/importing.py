"""The part of an import that needs no database: a text in, a plan and a report out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.bindings.graph import build_graph
from kafkaproxy.zilla.expand.composites import expand_composites
from kafkaproxy.zilla.expand.specification import Catalogs
from kafkaproxy.zilla.importer.check import check_plan
from kafkaproxy.zilla.importer.context import ImportContext
from kafkaproxy.zilla.importer.flatten import flatten
from kafkaproxy.zilla.plan import Plan
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.documents import find_documents
from kafkaproxy.zilla.yaml.read import ReadError, read_file
from kafkaproxy.zilla.yaml.variables import Variables

__all__ = ["Options", "plan_file", "plan_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to import."""

    gateway: str = ""
    """The gateway's name; empty: the namespace's, or the file's where it has none."""
    cluster: str = ""
    """An existing cluster, for a fragment whose Kafka side was not given."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Values that references are checked against; never stored."""
    schemas: bool = True
    """True: refuse API specifications whose schemas are not checked here; False: warn of them."""


def plan_file(path: Path, options: Options) -> tuple[Plan, ImportReport]:
    """Return the plan of a file and what there is to say about it. The plan is empty where anything was refused."""
    try:
        text = read_file(path)
    except ReadError as error:
        report = ImportReport()
        report.refuse(FilePlace(path.name, error.line), error.message, error.advice)
        return Plan(), report
    return plan_text(text, path.name, options, folder=path.parent)


def plan_text(text: str, file: str, options: Options, folder: Path | None = None) -> tuple[Plan, ImportReport]:
    """Do as :func:`plan_file` with a text; ``folder`` is where relative paths in it start."""
    report = ImportReport()
    documents = find_documents(text, file, report)
    variables = Variables(options.environ, report)
    if not report.is_refused():
        catalogs = Catalogs(folder, variables, report)
        documents = expand_composites(documents, catalogs, report, schemas=options.schemas)
    if report.is_refused():
        return Plan(), report
    graph = build_graph(documents, report)
    context = ImportContext(graph, report, variables, folder, options.cluster)
    if report.is_refused():
        return Plan(), report
    plan = flatten(context, options.gateway, _default_name(file))
    if not report.is_refused():
        check_plan(plan, report)
    return (Plan(), report) if report.is_refused() else (plan, report)


def _default_name(file: str) -> str:
    """Return a name for a configuration without one, made of its file's name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(file).stem).lstrip("._-0123456789")
    return name or "imported"
