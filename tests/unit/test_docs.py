"""The documentation says what the code does."""

from __future__ import annotations

import re
import runpy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PAGES = [*sorted(_ROOT.glob("*.md")), *sorted((_ROOT / "docs").rglob("*.md"))]
_SOURCES = [path for folder in ("kafkaproxy", "project", "tests") for path in sorted((_ROOT / folder).rglob("*.py"))]
_CITED = re.compile(r"\bthe contract\b(?:, \*([^*]+)\*)?", re.IGNORECASE)
_NUMBER = re.compile(r"\bD\d+\b")
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_the_page_of_settings_is_up_to_date() -> None:
    page = runpy.run_path(str(_ROOT / "docs/reference/make_settings.py"))["page"]()
    assert (_ROOT / "docs/reference/settings.md").read_text() == page, "run python docs/reference/make_settings.py"


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = [target for target in _LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def one_line(path: Path) -> str:
    """Return a text whose sentences are not broken by the ends of its lines."""
    return " ".join(path.read_text().split())


def headings(page: str) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", (_ROOT / page).read_text(), re.MULTILINE))


def test_sections_of_the_contract_that_are_cited_are_there() -> None:
    cited = [
        (path.name, section) for path in _SOURCES if path.name != "test_docs.py" for section in _CITED.findall(one_line(path))
    ]
    assert len(cited) > 20
    assert [each for each in cited if each[1] not in headings("docs/reference/contract.md")] == []


def test_divergences_that_are_cited_are_listed() -> None:
    listed = re.findall(r"^\| (D\d+) \|", (_ROOT / "docs/reference/divergences.md").read_text(), re.MULTILINE)
    assert listed == [f"D{number}" for number in range(1, len(listed) + 1)]
    cited = {(path.name, number) for path in (*_SOURCES, *_PAGES) for number in _NUMBER.findall(path.read_text())}
    assert [each for each in sorted(cited) if each[1] not in listed] == []


def test_the_contract_names_every_divergence() -> None:
    contract = (_ROOT / "docs/reference/contract.md").read_text()
    listed = re.findall(r"^\| (D\d+) \|", (_ROOT / "docs/reference/divergences.md").read_text(), re.MULTILINE)
    assert sorted(set(listed) - set(_NUMBER.findall(contract))) == []


def api() -> dict[str, Any]:
    return runpy.run_path(str(_ROOT / "docs/reference/make_api.py"))


def test_the_page_of_what_may_be_imported_is_up_to_date() -> None:
    assert (_ROOT / "docs/reference/api.md").read_text() == api()["page"](), "run python docs/reference/make_api.py"


@pytest.mark.parametrize("module", api()["PUBLIC"])
def test_a_public_module_exports_what_its_page_has(module: str) -> None:
    names: dict[str, str] = api()["PUBLIC"][module]
    assert sorted(import_module(module).__all__) == sorted(names)


def test_every_public_member_has_a_docstring() -> None:
    assert re.findall(r"^\| `([^`]+)` \|  \|$", api()["page"](), re.MULTILINE) == []


def test_pages_import_only_what_is_public() -> None:
    modules = {name for page in _PAGES for name in re.findall(r"from (kafkaproxy\S*) import", page.read_text())}
    assert modules
    assert modules <= set(api()["PUBLIC"])
