"""What the expansion of API specifications says can be translated, and every placeholder of it is filled in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafkaproxy.zilla import composites

_FOLDER = Path(composites.__file__).parent
_MODULES = [Path(composites.__file__), *sorted((_FOLDER / "expand").glob("*.py"))]
_SAYING = {"refuse", "warn", "ignore", "Trouble", "_say"}
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


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: path.stem)
def test_every_message_is_marked_and_filled_in(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert [ast.unparse(node) for node in _said(tree) if _is_bare(node)] == []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Call) and _name(node.left) == "gettext":
            assert isinstance(node.right, ast.Dict)
            given = {ast.literal_eval(key) for key in node.right.keys if key is not None}
            text = ast.literal_eval(node.left.args[0])
            assert set(re.findall(r"%\((\w+)\)[rs]", text)) == given, text
