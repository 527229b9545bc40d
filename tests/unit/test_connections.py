"""The limits of open files and of servers: raised where that is possible, told where it is not."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

from kafkaproxy.conf import Settings
from kafkaproxy.serving.connections import raise_open_file_limit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "deploy.md"
SMALL = Settings(max_streams=100, max_waiting_requests=50)  # 1,150 are wanted
UNLIMITED = resource.RLIM_INFINITY


class OpenFiles:
    """The limit, as the system keeps it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.limit = (soft, hard)
        monkeypatch.setattr(resource, "getrlimit", lambda _which: self.limit)
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, _which: int, limit: tuple[int, int]) -> None:
        assert limit[1] == self.limit[1]
        self.limit = limit


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(":")[0] for record in caplog.records if record.name == "kafkaproxy.asgi"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process that no server started, with enough open files."""
    monkeypatch.setattr("sys.argv", ["/usr/bin/python"])
    OpenFiles(monkeypatch, 5000, 5000)
    return monkeypatch


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((256, 4096), 1150),
        ((256, UNLIMITED), 1150),
        ((1150, 4096), 1150),
        ((2000, 4096), 2000),
        ((UNLIMITED, UNLIMITED), UNLIMITED),
    ],
)
def test_the_soft_limit_of_open_files_is_raised_as_far_as_needed(
    command: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, before: tuple[int, int], after: int
) -> None:
    files = OpenFiles(command, *before)
    raise_open_file_limit(SMALL)
    assert files.limit == (after, before[1])
    assert told(caplog) == []


def test_a_hard_limit_that_is_lower_is_told(command: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    files = OpenFiles(command, 256, 1024)
    raise_open_file_limit(SMALL)
    assert files.limit == (1024, 1024)
    assert told(caplog) == ["connection_limit_low limit=1024 of=open_files wanted=1150"]


def test_a_system_that_refuses_is_told(command: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    OpenFiles(command, 256, 4096)

    def refuse(*_arguments: object) -> None:
        raise OSError

    command.setattr(resource, "setrlimit", refuse)
    raise_open_file_limit(SMALL)
    assert told(caplog) == ["connection_limit_low limit=256 of=open_files wanted=1150"]


@pytest.mark.parametrize(
    ("line", "environment", "limit"),
    [
        ("/venv/bin/granian --interface asgi x:y", {}, "1024 of=granian"),
        ("/venv/granian/__main__.py --workers 4 x:y", {}, "256 of=granian"),
        ("granian --workers 2 --backlog=2048 x:y", {}, "1024 of=granian"),
        ("granian --backlog 128 --backpressure 1149 x:y", {}, "1149 of=granian"),
        ("granian --backpressure 1150 --workers 2 x:y", {}, None),
        ("granian x:y", {"GRANIAN_BACKPRESSURE": "2000"}, None),
        ("granian x:y", {"GRANIAN_BACKLOG": "512", "GRANIAN_WORKERS": "2"}, "256 of=granian"),
        ("granian --an-option-of-another-version x:y", {}, None),
        ("uvicorn --workers 2 x:y", {}, None),
        ("uvicorn --limit-concurrency 1000 x:y", {}, "1000 of=uvicorn"),
        ("uvicorn x:y", {"UVICORN_LIMIT_CONCURRENCY": "10"}, "10 of=uvicorn"),
        ("hypercorn x:y", {}, None),
        ("daphne x:y", {}, None),
        ("", {}, None),
    ],
)
def test_a_server_that_takes_fewer_connections_is_told(
    command: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, line: str, environment: dict[str, str], limit: str | None
) -> None:
    command.setattr("sys.argv", line.split(" "))
    for name, value in environment.items():
        command.setenv(name, value)
    raise_open_file_limit(SMALL)
    assert told(caplog) == ([] if limit is None else [f"connection_limit_low limit={limit} wanted=1150"])


def test_the_page_shows_the_line_as_it_is(command: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    OpenFiles(command, 1 << 20, 1 << 20)
    command.setattr("sys.argv", ["granian", "x:y"])
    raise_open_file_limit(Settings())
    assert [record.getMessage() for record in caplog.records] == re.findall(
        r"^connection_limit_low .*$", PAGE.read_text(), re.MULTILINE
    )
