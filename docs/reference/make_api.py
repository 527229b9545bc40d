"""Writes ``api.md`` from the docstrings of what may be imported: ``python docs/reference/make_api.py``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TypeGuard

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
_HEAD = """\
# What may be imported

These names are the public interface: they change only with a line in the [changes](../../CHANGELOG.md). **Everything else is
private**, with an underscore or without, and may change or move in any commit. The [settings](settings.md), the
[contract](contract.md) with clients, the metrics, the management commands and `include("kafkaproxy.urls")` are public, too.

<!-- Written by `python docs/reference/make_api.py` from the docstrings. -->
"""
PUBLIC = {
    "kafkaproxy.asgi": {"KafkaProxy": "kafkaproxy/asgi.py"},
    "kafkaproxy.signals": {"configuration_changed": "kafkaproxy/signals.py"},
    "kafkaproxy.routing.announce": {"touch": "kafkaproxy/routing/announce.py"},
    "kafkaproxy.guards": {
        "register": "kafkaproxy/guard_kinds.py",
        "GuardBackend": "kafkaproxy/guards/base.py",
        "GuardConfig": "kafkaproxy/routing/table.py",
        "Request": "kafkaproxy/http/request.py",
        "ClientPrincipal": "kafkaproxy/guards/principals.py",
        "Refusal": "kafkaproxy/guards/principals.py",
        "OptionError": "kafkaproxy/guard_kinds.py",
    },
}
"""Module → name → the file in which it is defined."""
_ABOUT = {
    "kafkaproxy.asgi": "In the site's `asgi.py`: see [deploy](../how-to/deploy.md#1-an-asgi-server).",
    "kafkaproxy.signals": "For receivers.",
    "kafkaproxy.routing.announce": "For data migrations and scripts. The rows themselves are reached with `apps.get_model`.",
    "kafkaproxy.guards": "For a kind of guard of your own: see [guards](guards.md#kinds).",
}
_MEMBERS = {"Request": ("method", "scheme", "fields", "query", "path", "target", "authority", "field", "lines")}
"""What a guard may use of a class that has more."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for module, names in PUBLIC.items():
        parts.append(f"\n## `{module}`\n\n{_ABOUT[module]}\n")
        parts += [f"\n### `{name}`\n\n{_described(name, _ROOT / file)}\n" for name, file in names.items()]
    return "".join(parts)


def _described(name: str, file: Path) -> str:
    body = ast.parse(file.read_text()).body
    for node, docstring in zip_longest(body, body[1:]):
        match node:
            case ast.ClassDef() if node.name == name:
                return _class(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
                return f"```python\n{_signature(node)}\n```\n\n{_docstring(node)}"
            case ast.Assign(targets=[ast.Name(id=target)]) if target == name:
                return _text(docstring)
    raise LookupError(f"{name} is not in {file}.")


def _class(node: ast.ClassDef) -> str:
    members = dict(_members(node))
    wanted = _MEMBERS.get(node.name, [each for each in members if not each.startswith("_")])
    initial = [f"```python\n{node.name}({_arguments(each)})\n```\n\n" for each in node.body if _is_initial(each)]
    if node.name in _MEMBERS:  # it is given, not made
        initial = []
    rows = [f"| `{members[each][0]}` | {members[each][1]} |" for each in wanted]
    table = "\n\n| member | |\n|---|---|\n" + "\n".join(rows) if rows else ""
    return "".join(initial) + _docstring(node) + table


def _members(node: ast.ClassDef) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield name → how it is written, and what it is."""
    for each, after in zip_longest(node.body, node.body[1:]):
        match each:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                default = "" if each.value is None else f" = {_default(each.value)}"
                yield name, (_cell(f"{name}: {ast.unparse(annotation)}{default}"), _cell(_text(after)))
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant()):
                yield name, (name, _cell(_text(after)))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                is_property = any(ast.unparse(decorator) == "property" for decorator in each.decorator_list)
                returned = f": {ast.unparse(each.returns)}" if each.returns else ""
                written = f"{each.name}{returned}" if is_property else _signature(each)
                yield each.name, (_cell(written), _cell(_docstring(each)))
    for each in node.body:
        if _is_initial(each):
            yield from _attributes(each)


def _attributes(initial: Function) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield what a constructor sets."""
    for each, after in pairwise([*initial.body, ast.Pass()]):
        match each:
            case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=annotation):
                yield name, (_cell(f"{name}: {ast.unparse(annotation)}"), _cell(_text(after)))
            case ast.Assign(targets=[ast.Attribute(attr=name)]):
                yield name, (name, _cell(_text(after)))


def _is_initial(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _signature(node: Function) -> str:
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{prefix}{node.name}({_arguments(node)}){returned}"


def _arguments(node: Function) -> str:
    text = re.sub(r"^self(, )?", "", ast.unparse(node.args))
    return re.sub(r"(?<=[\w\]])=(?=\w)", " = ", text)


def _default(node: ast.expr) -> str:
    """Return a default; of ``field()`` the one that it has, or an empty mapping where it makes one."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "field":
        return next((ast.unparse(each.value) for each in node.keywords if each.arg == "default"), "{}")
    return ast.unparse(node)


def _docstring(node: ast.ClassDef | Function) -> str:
    return _plain(ast.get_docstring(node) or "")


def _text(node: ast.stmt | None) -> str:
    """Return a docstring that stands below what it is about."""
    match node:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return _plain(text)
    return ""


def _plain(text: str) -> str:
    return re.sub(r":\w+:(?=`)", "", text.replace("``", "`"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    (_HERE / "api.md").write_text(page())
