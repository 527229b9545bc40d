"""The commands and files of ``docs/how-to/deploy.md``, as it gives them."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

__all__ = [
    "COMMANDS",
    "DOCKERFILE",
    "PAGE",
    "RECIPES",
    "UNIT",
    "command_on",
    "kubernetes",
    "option",
    "read_compose",
    "without_address",
]

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "deploy.md"
_FOLDER: Final = PAGE.parent / "deploy"
_ADDRESS: Final = {"--host", "--port", "--bind", "-b", "-p"}


def _unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(_FOLDER / "mysite.service")
    return unit


UNIT: Final = _unit()
"""The unit of systemd: section → name → value. No name stands twice in a section, or this fails."""
DOCKERFILE: Final = (_FOLDER / "Dockerfile").read_text()
COMMANDS: Final = {
    name.lower(): shlex.split(command)
    for name, command in re.findall(r"^\| (\w+) \| `([^`]+ mysite\.asgi:application)` \|", PAGE.read_text(), re.MULTILINE)
}
"""Server → its command in the page's table."""
RECIPES: Final = {
    **COMMANDS,
    "systemd": shlex.split(UNIT["Service"]["ExecStart"]),
    "docker": list(json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[0])),
}
"""The same, and the commands of the files."""


def read_compose() -> Any:
    """Return the compose file."""
    return YAML(typ="safe").load(_FOLDER / "compose.yaml")


def kubernetes(kind: str) -> Any:
    """Return the one object of a kind."""
    (found,) = [each for each in YAML(typ="safe").load_all(_FOLDER / "kubernetes.yaml") if each["kind"] == kind]
    return found


def option(command: Sequence[str], name: str) -> int:
    """Return the number that an option of a command has."""
    return int(command[command.index(name) + 1])


def without_address(command: Sequence[str]) -> list[str]:
    """Return a command without the address and the folder of its program, by which those of a server may differ."""
    kept = [each for at, each in enumerate(command) if each not in _ADDRESS and (at == 0 or command[at - 1] not in _ADDRESS)]
    return [Path(kept[0]).name, *kept[1:]]


def command_on(command: Sequence[str], application: str, port: int) -> list[str]:
    """Return a command for another application, at a loopback port."""
    program, *rest = without_address(command)
    address = (
        ["--bind", f"127.0.0.1:{port}"] if program == "hypercorn" else ["-p" if program == "daphne" else "--port", str(port)]
    )
    return [program, *address, *(each.replace("mysite.asgi:application", application) for each in rest)]
