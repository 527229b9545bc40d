"""Writes ``zilla-import.md`` from ``fixtures/zilla/*.expected.yaml``: ``python docs/reference/make_zilla_import.py``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_HERE = Path(__file__).resolve().parent
_CORPUS = _HERE.parents[1] / "fixtures" / "zilla"
_SECTIONS = (
    *("Requests and topics", "Streams", "Which requests", "Guards and credentials", "Other origins"),
    *("Kafka", "Listeners", "Files", "Other protocols", "Mistakes"),
)
_HEAD = """\
# What becomes of each construct of a zilla.yaml

Every construct has a small file of its own, which the tests import. Beside it, `NAME.expected.yaml` holds what the import says
of it, word for word, and the requests that are answered and refused afterwards. Three answers, never silence: **imported**
(some with a warning), **ignored** because it cannot change what a client sees, and **refused** with its line and a way out;
then nothing of the file is imported. How to import is told in [Migrate from Zilla](../how-to/migrate-from-zilla.md).

`asyncapi`, `openapi` and `openapi-asyncapi` bindings are expanded first; their files are in
[composites](../../fixtures/zilla/composites).

<!-- Written by `python docs/reference/make_zilla_import.py` from fixtures/zilla/*.expected.yaml. -->
"""
_TABLE = "| construct | what becomes of it | file |\n|---|---|---|\n"
_MODELS = """
A model or a transform (`model: avro`, `json`, `protobuf`, `string`, `int32` …) decides which records are written and served,
and in which format, so a file with one is refused as long as an imported route uses the topic or the request it is about. That
holds for the models that need no schema, too: `string` with a pattern turns records away, and kafkaproxy would write them. Only
`bytes`, which every record fits, is ignored.
"""
_ANSWER = re.compile(r"(imported|ignored|refused)\b(.*)")


def page() -> str:
    """Return the page."""
    cases = {path: YAML(typ="safe", pure=True).load(path) for path in sorted(_CORPUS.glob("*.expected.yaml"))}
    unknown = {case["section"] for case in cases.values()}.difference(_SECTIONS)
    if unknown:
        raise ValueError(f"These sections have no place on the page: {', '.join(sorted(unknown))}.")
    return _HEAD + "".join(_section(name, cases) for name in _SECTIONS)


def _section(name: str, cases: Mapping[Path, Any]) -> str:
    rows = "".join(_row(path, case) for path, case in cases.items() if case["section"] == name)
    return f"\n## {name}\n{_MODELS if name == 'Kafka' else ''}\n{_TABLE}{rows}"


def _row(path: Path, case: Any) -> str:
    file = path.name.replace(".expected", "")
    cells = (case["what"], _answer(path, case), f"[{file}](../../fixtures/zilla/{file})")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _answer(path: Path, case: Any) -> str:
    """Return what becomes of it, which begins with the answer; where it does not, it is imported."""
    becomes: str = case["becomes"]
    found = _ANSWER.fullmatch(becomes)
    answer, rest = found.groups() if found is not None else ("imported", f": {becomes}")
    if (answer == "refused") is not ("refused" in case):
        raise ValueError(f"{path.name} says that it is {answer}, and the import says otherwise.")
    return f"**{answer}**{rest}"


if __name__ == "__main__":
    (_HERE / "zilla-import.md").write_text(page())
