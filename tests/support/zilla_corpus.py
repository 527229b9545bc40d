"""The corpus in ``fixtures/zilla``: a small zilla.yaml for every construct, and beside it what is expected of its import.

``NAME.expected.yaml`` says ``what`` the construct is and what ``becomes`` of it (the documentation has a table of these, by
``section``), and the ``requests`` that it answers and refuses: all written by hand. Below a line stands what the import says of
it, word for word. After a change of wording, ``python -m tests.support.zilla_corpus`` writes the part below the line anew; read
the difference before you commit it.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

__all__ = ["FOLDER", "Ask", "Case", "cases", "said"]

FOLDER: Final = Path(__file__).parents[2] / "fixtures" / "zilla"
_LINE: Final = "# What importzilla says, word for word; python -m tests.support.zilla_corpus writes it.\n"
_SECTIONS: Final = ("imported", "variables", "ignored", "warnings", "refused")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and what becomes of it: the name of a route, ``untouched``, or the status of a refusal."""

    ask: str
    outcome: str
    at: str = "http://localhost:7114"
    fields: Mapping[str, str] = field(default_factory=dict)
    token: Mapping[str, Any] | None = None
    """The claims of a token to send, where the text has ``{token}``, or else as a bearer token."""
    body: str = ""
    answers: Mapping[str, str] = field(default_factory=dict)
    """Fields that the answer has."""
    status: int | None = None
    record: Mapping[str, Any] | None = None
    """The record that Kafka has afterwards; the status is what the client gets."""


@dataclass(frozen=True, slots=True)
class Case:
    """One file of the corpus."""

    name: str
    section: str
    """Where it stands in the documentation."""
    what: str
    becomes: str
    requests: tuple[Ask, ...]
    environ: Mapping[str, str]
    dialect: int
    """Which of Zilla's dialects an export is written in."""
    loses: tuple[str, ...]
    """What an export says it leaves out."""
    says: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The zilla.yaml."""
        return FOLDER / f"{self.name}.yaml"

    @property
    def is_refused(self) -> bool:
        """Return True if nothing of it is to be imported."""
        return bool(self.says["refused"])


def cases() -> list[Case]:
    """Return the corpus, in the order of the names."""
    return [_read(path) for path in sorted(FOLDER.glob("*.expected.yaml"))]


def _read(path: Path) -> Case:
    data = YAML(typ="safe", pure=True).load(path)
    return Case(
        name=path.name.removesuffix(".expected.yaml"),
        section=data["section"],
        what=data["what"],
        becomes=data["becomes"],
        requests=tuple(_ask(each) for each in data.get("requests", ())),
        environ=data.get("environ", {}),
        dialect=data.get("dialect", 1),
        loses=tuple(data.get("loses", ())),
        says={name: data.get(name, "") for name in _SECTIONS},
    )


def _ask(data: dict[str, Any]) -> Ask:
    return Ask(outcome=str(data.pop("is")), **data)


def said(case: Case) -> dict[str, str]:
    """Return what an import of the case's file says, section by section."""
    from kafkaproxy.zilla.importer.importing import Options, plan_file
    from kafkaproxy.zilla.plan import describe
    from kafkaproxy.zilla.report import Verdict

    plan, report = plan_file(case.path, Options(environ=case.environ))
    lines = {
        "imported": describe(plan),
        "variables": (f"{place}: {name}" for name, place in report.variables.items() if not report.is_refused()),
        "ignored": map(str, report.of(Verdict.IGNORED)),
        "warnings": map(str, report.of(Verdict.WARNING)),
        "refused": map(str, report.of(Verdict.REFUSED)),
    }
    return {name: "".join(f"{line}\n" for line in lines[name]) for name in _SECTIONS}


def _write(case: Case) -> None:
    path = FOLDER / f"{case.name}.expected.yaml"
    by_hand = path.read_text().partition(_LINE)[0]
    path.write_text(by_hand + _LINE + "".join(_blocks(said(case))))


def _blocks(sections: Mapping[str, str]) -> Iterator[str]:
    for name, text in sections.items():
        if text:
            yield f"{name}: |\n{textwrap.indent(text, '  ')}"


def _main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    for case in cases():
        _write(case)


if __name__ == "__main__":
    _main()
