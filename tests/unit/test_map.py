"""The map of the code: what ARCHITECTURE.md names is there, and every room is on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = _ROOT / "kafkaproxy"
_MAP = (_ROOT / "ARCHITECTURE.md").read_text()
_PATH = re.compile(r"`([\w./-]+(?:\.(?:py|md|toml|yaml|html)|/))`")
_LIVES = re.compile(r"^### ([^\n]+)\n\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)


def named_paths(text: str) -> list[str]:
    return sorted(set(_PATH.findall(text)))


def rooms() -> Iterator[str]:
    for path in sorted(_PACKAGE.rglob("__init__.py")):
        room = path.parent.relative_to(_PACKAGE).as_posix()
        if room not in (".", "management/commands"):
            yield f"{room}/"


def test_paths_are_recognised() -> None:
    text = "`a/b.py`, `c/`, `conf.py` and `text/plain`, `prefer: wait`, `KafkaProxy`"
    assert named_paths(text) == ["a/b.py", "c/", "conf.py"]


@pytest.mark.parametrize("name", named_paths(_MAP))
def test_what_the_map_names_is_there(name: str) -> None:
    assert (_PACKAGE / name).exists() or (_ROOT / name).exists()


def test_every_room_has_a_line() -> None:
    lines = re.findall(r"^\| `([\w/]+/)` \|", _MAP, re.MULTILINE)
    assert sorted(lines) == sorted(rooms())


@pytest.mark.parametrize(("title", "life"), _LIVES.findall(_MAP), ids=[title for title, _ in _LIVES.findall(_MAP)])
def test_a_life_is_short_and_names_its_files(title: str, life: str) -> None:
    assert 1 < len(life.strip().splitlines()) <= 10
    assert len(named_paths(life)) >= 5


def test_there_are_six_lives() -> None:
    assert len(_LIVES.findall(_MAP)) == 6
