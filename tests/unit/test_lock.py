"""Deleting a store that may be torn, on systems with and without boot ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafkaproxy.worker.store import writer_lock as lock
from kafkaproxy.worker.store.writer_lock import mark, prepare

_OTHER = """
import sys
from pathlib import Path
from kafkaproxy.worker.store import writer_lock as lock
lock._BOOT_ID = Path("/there is no such file")
lock.prepare(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a store that holds something."""
    (tmp_path / "c" / "store-9").mkdir(parents=True)
    (tmp_path / "c" / "store-9" / "data.mdb").write_bytes(b"x")
    return tmp_path / "c"


@pytest.fixture
def _no_boot_ids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A system such as macOS."""
    monkeypatch.setattr(lock, "_BOOT_ID", tmp_path / "proc" / "boot_id")
    monkeypatch.setattr(lock, "_alive_locks", {})
    yield
    forget_life()


def forget_life() -> None:
    """Release this process's alive locks, as if it had died."""
    for fd in lock._alive_locks.values():
        os.close(fd)
    lock._alive_locks.clear()


def is_kept(folder: Path) -> bool:
    return (folder / "store-9").exists()


def note(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "store.json").read_text())
    return found


def test_a_store_of_this_boot_is_kept_however_its_writer_ended(folder: Path) -> None:
    mark(folder, clean=False)
    prepare(folder)
    assert is_kept(folder)


@pytest.mark.usefixtures("_no_boot_ids")
class TestWithoutBootIds:
    def test_a_store_that_was_closed_is_kept(self, folder: Path) -> None:
        mark(folder, clean=True)
        prepare(folder)
        assert is_kept(folder)
        assert note(folder) == {"boot": "", "clean": False}

    def test_a_store_that_was_not_closed_and_is_not_in_use_is_deleted(self, folder: Path) -> None:
        mark(folder, clean=False)
        prepare(folder)
        assert not is_kept(folder)

    def test_a_store_that_another_process_uses_is_kept(self, folder: Path) -> None:
        mark(folder, clean=True)
        command = [sys.executable, "-c", _OTHER, str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            mark(folder, clean=False)  # as its writer does when it begins
            prepare(folder)
            assert is_kept(folder)
            other.communicate("")
        prepare(folder)  # the other process is dead, but this one is alive
        assert is_kept(folder)
        forget_life()
        prepare(folder)
        assert not is_kept(folder)

    def test_a_process_that_comes_again_keeps_it(self, folder: Path) -> None:
        mark(folder, clean=True)
        prepare(folder)
        mark(folder, clean=False)
        prepare(folder)
        assert is_kept(folder)
        assert len(lock._alive_locks) == 1

    def test_a_store_without_a_note_is_deleted(self, folder: Path) -> None:
        prepare(folder)
        assert not is_kept(folder)

    def test_a_store_of_a_system_that_names_its_boots_is_not_of_this_one(self, folder: Path) -> None:
        (folder / "store.json").write_text(json.dumps({"boot": "1234", "clean": False}))
        prepare(folder)
        assert not is_kept(folder)
