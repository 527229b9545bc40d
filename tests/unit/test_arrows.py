"""Which part may know which: the arrows of the architecture, read from the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kafkaproxy

ROOT = Path(kafkaproxy.__file__).parent
FRAMEWORKS = ("django", "channels", "rest_framework", "rest_framework_simplejwt", "corsheaders", "daphne")
KAFKA = ("confluent_kafka", "lmdb")


def _rooms(*names: str) -> tuple[str, ...]:
    return tuple(f"kafkaproxy.zilla.{name}" for name in names)


FORBIDDEN = {
    "core": (*FRAMEWORKS, *KAFKA, "kafkaproxy"),  # save itself
    "worker": (
        *FRAMEWORKS,
        "kafkaproxy.models",
        "kafkaproxy.routing",
        "kafkaproxy.consumers",
        "kafkaproxy.guards",
        "kafkaproxy.conf",
    ),
    "routing": ("kafkaproxy.consumers", "kafkaproxy.guards", "kafkaproxy.admin", "channels"),
    "models": ("kafkaproxy.specs", "kafkaproxy.routing", "kafkaproxy.consumers", "kafkaproxy.admin", "channels", *KAFKA),
    "specs": (
        *("kafkaproxy.routing", "kafkaproxy.consumers", "kafkaproxy.admin", "kafkaproxy.zilla", "kafkaproxy.guards"),
        *("kafkaproxy.worker", "channels"),
        *KAFKA,
    ),
    "zilla/yaml": ("kafkaproxy.models", "kafkaproxy.routing", *_rooms("bindings", "expand", "importer", "sync", "exporter")),
    "zilla/bindings": ("kafkaproxy.models", "kafkaproxy.routing", *_rooms("expand", "importer", "sync", "exporter")),
    "zilla/expand": ("kafkaproxy.models", "kafkaproxy.routing", *_rooms("importer", "sync", "exporter")),
    "zilla/importer": ("kafkaproxy.models", "kafkaproxy.specs.from_rows", *_rooms("sync", "exporter")),
    "zilla/sync": _rooms("importer", "exporter"),
    "zilla/exporter": _rooms("sync"),
    "zilla": (
        "kafkaproxy.consumers",
        "kafkaproxy.guards",
        "kafkaproxy.worker",
        "kafkaproxy.serving.runtime",
        "kafkaproxy.admin",
    ),
    "admin/forms": ("kafkaproxy.admin.pages", "kafkaproxy.admin.base", "kafkaproxy.consumers", "kafkaproxy.worker"),
    "admin/pages": tuple(
        f"kafkaproxy.admin.{name}" for name in ("base", "actions", "gateways", "entries", "routes", "clusters")
    ),
    "guards": ("kafkaproxy.models", "kafkaproxy.worker", "kafkaproxy.admin", *KAFKA),
    "consumers": ("kafkaproxy.models", "kafkaproxy.admin", "django.db"),
}
ALLOWED: dict[str, tuple[str, ...]] = {"core": ("kafkaproxy.core",)}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it, those for types only left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in packages)


@pytest.mark.parametrize("part", FORBIDDEN)
def test_no_part_knows_what_it_must_not(part: str) -> None:
    files = sorted((ROOT / part).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imports(path)
        if within(module, FORBIDDEN[part]) and not within(module, ALLOWED.get(part, ()))
    ]
    assert wrong == []


def test_the_walk_sees_imports_of_every_form(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    lines = ["import a.b", "from c.d import e", "def f(): import g", "if TYPE_CHECKING: import h", "if x: from i import j"]
    path.write_text("\n".join(lines))
    assert sorted(imports(path)) == ["a.b", "c.d.e", "g", "i.j"]
