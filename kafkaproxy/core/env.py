"""Environment references: ``${{env.NAME}}``. They are stored as written, resolved when used, and never stored resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["MissingVariable", "env_names", "mask_env", "resolve_env"]

_REFERENCE: Final = re.compile(r"\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


class MissingVariable(ValueError):
    """An environment variable that the configuration names is not set."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The environment variable {name} is not set: set it where the server and the worker run.")
        self.name = name


def env_names(text: str) -> list[str]:
    """Return the names of the variables that ``text`` refers to, in order."""
    return _REFERENCE.findall(text)


def mask_env(text: str) -> str:
    """Replace every reference by its variable's name, a harmless literal, to check the text around it."""
    return _REFERENCE.sub(r"\1", text)


def resolve_env(text: str, environ: Mapping[str, str]) -> str:
    """Return the text with the references resolved; raise :class:`MissingVariable` for a variable that is not set."""

    def value(found: re.Match[str]) -> str:
        try:
            return environ[found[1]]
        except KeyError:
            raise MissingVariable(found[1]) from None

    return _REFERENCE.sub(value, text)
