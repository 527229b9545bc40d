"""The table of constructs in the documentation is the corpus, all of it, as it is."""

from __future__ import annotations

import runpy
from pathlib import Path

from tests.support.zilla_corpus import cases

_DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_the_page_of_constructs_is_up_to_date() -> None:
    page = runpy.run_path(str(_DOCS / "make_zilla_import.py"))["page"]()
    assert (_DOCS / "zilla-import.md").read_text() == page, "run python docs/reference/make_zilla_import.py"


def test_every_file_of_the_corpus_has_one_row() -> None:
    page = (_DOCS / "zilla-import.md").read_text()
    rows = [line for line in page.splitlines() if line.endswith(".yaml) |")]
    named = [row.rpartition("[")[2].partition(".yaml]")[0] for row in rows]
    assert sorted(named) == sorted(case.name for case in cases())
    for case in cases():
        [row] = [row for row in rows if f"[{case.name}.yaml]" in row]
        assert ("**refused**" in row) is case.is_refused
