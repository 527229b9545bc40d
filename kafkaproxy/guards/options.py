"""Options of guards: read by a table of what is known, so that a typing error is an error and names what was meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext as _

from kafkaproxy.core.env import env_names
from kafkaproxy.guard_kinds import OptionError, suggest

__all__ = [
    "REQUIRED",
    "Option",
    "OptionError",
    "check_options",
    "flag",
    "mentions_env",
    "nullable",
    "read_options",
]
__all__ += ["seconds", "text", "text_map", "texts"]

REQUIRED: Final = object()
"""The default of an option that has to be written."""


@dataclass(frozen=True, slots=True)
class Option:
    """How an option is read: ``parse`` raises ``ValueError`` with what to write instead."""

    parse: Callable[[Any], Any]
    default: Any = None


def read_options(given: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """Return the options with their defaults; raise :class:`OptionError` with every problem."""
    values, problems = _read(given, known)
    if problems:
        raise OptionError(problems)
    return values


def check_options(given: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """Check options as they are written: what names an environment variable is left out, it is known only where it is used."""
    values, problems = _read(
        {name: value for name, value in given.items() if not mentions_env(value) or name not in known},
        {name: option for name, option in known.items() if name not in given or not mentions_env(given[name])},
        spell=known,
    )
    if problems:
        raise OptionError(problems)
    return values


def mentions_env(value: Any) -> bool:
    """Whether a text inside names an environment variable."""
    match value:
        case str():
            return bool(env_names(value))
        case dict():
            return any(map(mentions_env, value.values()))
        case list():
            return any(map(mentions_env, value))
        case _:
            return False


def _read(
    given: Mapping[str, Any], known: Mapping[str, Option], spell: Mapping[str, Option] | None = None
) -> tuple[dict[str, Any], list[str]]:
    unknown = [name for name in given if name not in known]
    problems = [_("%(name)s is not an option.") % {"name": name} + " " + suggest(name, spell or known) for name in unknown]
    values: dict[str, Any] = {}
    for name, option in known.items():
        try:
            values[name] = _value(given, name, option)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    return values, problems


def _value(given: Mapping[str, Any], name: str, option: Option) -> Any:
    if name in given:
        return option.parse(given[name])
    if option.default is REQUIRED:
        raise ValueError(_("Write this option."))
    return option.default


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(_("Write a text."))
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A text, or a list of them."""
    if isinstance(value, list) and value:
        return tuple(map(text, value))
    return (text(value),)


def nullable(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``null`` too, which says: not checked."""
    return lambda value: None if value is None else parse(value)


def text_map(value: Any) -> dict[str, str]:
    """An object of texts."""
    if not isinstance(value, dict):
        raise ValueError(_('Write an object of names and claims: {"email": "email"}.'))
    return {name: text(each) for name, each in value.items()}


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(_("Write true or false."))
    return value


def seconds(least: float, most: float) -> Callable[[Any], float]:
    """A number of seconds within limits."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            limits = {"least": f"{least:g}", "most": f"{most:g}"}
            raise ValueError(_("Write a number of seconds from %(least)s to %(most)s.") % limits)
        return float(value)

    return parse
