"""Prints the unit tests that a change may concern, a path on each line: ``python .ci/changed_tests.py [COMMIT]``.

The change is what differs from the commit (by default the merge base with ``main``, or else the last commit), saved or not, and
new files. A test file is concerned if it changed, or if it imports a changed module or one of the tests' helpers that changed.
Changes of anything else (templates, fixtures, documentation) concern the tests that name the file.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]


def main(since: str | None) -> None:
    """Print the paths, relative to the top of the repository."""
    changed = set(_changed(since or _base()))
    modules = {_module(path) for path in changed if path.suffix == ".py"}
    names = {path.name for path in changed if path.suffix != ".py"}
    for test in sorted((_ROOT / "tests" / "unit").glob("test_*.py")):
        path = test.relative_to(_ROOT)
        text = test.read_text()
        if path in changed or modules & set(_imports(text)) or any(name in text for name in names):
            sys.stdout.write(f"{path}\n")


def _base() -> str:
    for branch in ("origin/main", "main"):
        found = _git("merge-base", "HEAD", branch)
        if found:
            return found[0]
    return "HEAD"


def _changed(since: str) -> Iterator[Path]:
    yield from map(Path, _git("diff", "--name-only", since))
    yield from map(Path, _git("ls-files", "--others", "--exclude-standard"))


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _imports(text: str) -> Iterator[str]:
    """Yield the modules that a file imports; ``from a import b`` may mean the module ``a`` or ``a.b``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
