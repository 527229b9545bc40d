"""What an import says can be translated: no message is written where gettext does not see it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafkaproxy import zilla
from tests.support.zilla_samples import BASE, edited, refused

_FOLDER = Path(zilla.__file__).parent
_ROOMS = ("yaml", "bindings", "importer", "expand", "sync")
_MODULES = [path for room in _ROOMS for path in sorted((_FOLDER / room).glob("*.py"))]
_SAYING = {"refuse", "warn", "ignore", "ReadError", "StoreError", "Misfit", "ImportRefused", "ExpandError", "_say"}
_MARKING = {"_", "gettext"}
_WORDS = re.compile(r"[A-Za-z]{3,} [A-Za-z]")


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _said(tree: ast.AST) -> Iterator[ast.expr]:
    """Return the expressions that become messages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node) in _SAYING:
            yield from node.args
        elif isinstance(node, ast.Assign) and {getattr(each, "id", "") for each in node.targets} & {"message", "advice"}:
            yield node.value


def _is_bare(node: ast.expr) -> bool:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return any(isinstance(part, ast.Constant) and _WORDS.search(str(part.value)) for part in parts)


def test_there_are_messages_in_every_room() -> None:
    rooms = {path.parent.name for path in _MODULES if any(_said(ast.parse(path.read_text())))}
    assert rooms == set(_ROOMS)


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_every_message_is_marked(path: Path) -> None:
    assert [ast.unparse(node) for node in _said(ast.parse(path.read_text())) if _is_bare(node)] == []


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_every_placeholder_of_a_message_is_filled_in(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Call) and _name(node.left) in _MARKING:
            text = ast.literal_eval(node.left.args[0])
            assert isinstance(node.right, ast.Dict)
            given = {ast.literal_eval(key) for key in node.right.keys if key is not None}
            assert set(re.findall(r"%\((\w+)\)[rs]", text)) == given, text


def test_a_translation_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = {"There is no binding %(target)r.": "Es gibt kein Binding %(target)r."}
    monkeypatch.setattr("django.utils.translation._trans.gettext", lambda text: catalog.get(text, text), raising=False)
    [error] = refused(edited(BASE, ("    exit: http\n", "    exit: https\n")))
    assert "Es gibt kein Binding 'https'." in error
