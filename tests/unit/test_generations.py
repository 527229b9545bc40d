"""Generations of a store: one is current, and what no process uses is removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kafkaproxy.worker.store.generations import current, hold, remove_unused, replace, try_replace

_HOLDING = """
import sys
from pathlib import Path
from kafkaproxy.worker.store.generations import hold
print(hold(Path(sys.argv[1])) is not None, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "store"


def generations(home: Path) -> set[Path]:
    return {each for each in home.iterdir() if each.is_dir() and not each.is_symlink()}


def test_there_is_none_until_one_is_made(home: Path) -> None:
    assert current(home) is None
    made = replace(home, None)
    assert current(home) == made
    assert replace(home, None) == made, "which another process would have made"


def test_only_what_is_current_is_replaced(home: Path) -> None:
    first = replace(home, None)
    second = replace(home, first)
    assert current(home) == second != first
    assert replace(home, first) == second
    assert not try_replace(home, first, lambda _path: True)
    assert current(home) == second


def test_one_is_current_only_when_it_is_filled(home: Path) -> None:
    first = replace(home, None)

    def fill(path: Path) -> bool:
        assert current(home) == first
        assert not try_replace(home, first, lambda _path: True), "somebody else already does"
        (path / "data").write_text("filled")
        return True

    assert try_replace(home, first, fill)
    now = current(home)
    assert now is not None
    assert (now / "data").read_text() == "filled"


def test_a_generation_that_is_not_needed_or_fails_leaves_nothing_behind(home: Path) -> None:
    first = replace(home, None)
    assert not try_replace(home, first, lambda _path: False)
    with pytest.raises(OSError, match="full"):
        try_replace(home, first, _fail)
    assert current(home) == first
    assert generations(home) == {first}


def _fail(_path: Path) -> bool:
    raise OSError("full")


def test_a_generation_is_kept_while_a_process_that_uses_it_lives(home: Path) -> None:
    first = replace(home, None)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDING, str(first)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        second = replace(home, first)
        remove_unused(home)
        assert generations(home) == {first, second}
        process.kill()
    remove_unused(home)
    assert generations(home) == {second}


def test_an_unfinished_generation_of_a_dead_process_is_removed(home: Path) -> None:
    first = replace(home, None)
    (home / "half").mkdir()
    (home / "half" / "users.lock").touch()
    (home / "current.new").symlink_to("half")
    remove_unused(home)
    assert generations(home) == {first}
    second = replace(home, first)
    assert current(home) == second


def test_a_generation_that_is_not_current_cannot_be_held(home: Path) -> None:
    first = replace(home, None)
    fd = hold(first)
    assert fd is not None
    os.close(fd)
    replace(home, first)
    assert hold(first) is None
    remove_unused(home)
    assert hold(first) is None


def test_nothing_happens_if_the_store_was_removed(home: Path) -> None:
    remove_unused(home)
    assert not try_replace(home, home / "x", lambda _path: True)
    assert not home.exists()
