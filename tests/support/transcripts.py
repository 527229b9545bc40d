"""What the docs show of a shell, to be run and compared."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

__all__ = ["Step", "finish", "following", "need", "run", "start", "steps"]

_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what the page shows of its output."""

    command: str
    output: str


def need(*programs: str) -> None:
    """Skip the test where a program is not installed."""
    if missing := [each for each in programs if shutil.which(each) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


def steps(page: str, start: str, end: str) -> list[Step]:
    """Return the steps of the console blocks between two headings; output without a command is a step of its own."""
    text = (_ROOT / page).read_text()
    text = text[text.index(start) : text.index(end)]
    return [step for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for step in _steps(block)]


def _steps(block: str) -> Iterator[Step]:
    for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
        found = re.fullmatch(r"(?:\$ ((?:[^\n]*\\\n)*[^\n]*)\n)?(.*)", part, re.DOTALL)
        assert found is not None
        if part:
            yield Step(found[1] or "", found[2].strip())


def start(command: str) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        ["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Return what a command said, as it stands in a page."""
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said.strip()


@contextmanager
def following(command: str) -> Iterator[Iterator[str]]:
    """Run a command that does not end by itself; yield the lines that it says."""
    process = start(f"exec {command}")
    assert process.stdout is not None
    try:
        yield iter(process.stdout.readline, "")
    finally:
        process.kill()
        process.communicate()


def run(command: str) -> str:
    """Run a command to its end, and return what it said."""
    return finish(start(command))
