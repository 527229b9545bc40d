"""Options of guards: read by a table of known options, so that a misspelt name is an error with a suggestion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext as _

from kafkaproxy.core.env import env_names
from kafkaproxy.core.names import nearest

__all__ = [
    "REQUIRED",
    "Option",
    "OptionError",
    "check_options",
    "flag",
    "mentions_env",
    "nullable",
    "read_options",
    "suggest",
]
__all__ += ["seconds", "text", "text_map", "texts"]

REQUIRED: Final = object()
"""The default of an option that has to be given."""


class OptionError(ValueError):
    """Options that the kind cannot use. Each of ``problems`` says what to write instead."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__(" ".join(self.problems))


@dataclass(frozen=True, slots=True)
class Option:
    """An option. ``parse`` returns its value, or raises ``ValueError`` that says what to write instead."""

    parse: Callable[[Any], Any]
    default: Any = None


def read_options(given: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """Return the parsed options and the defaults of the others; raise :class:`OptionError` with every problem."""
    values, problems = _read(given, known)
    if problems:
        raise OptionError(problems)
    return values


def check_options(given: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """Return the parsed options without those that name an environment variable: its value is unknown here."""
    values, problems = _read(
        {name: value for name, value in given.items() if not mentions_env(value) or name not in known},
        {name: option for name, option in known.items() if name not in given or not mentions_env(given[name])},
        spell=known,
    )
    if problems:
        raise OptionError(problems)
    return values


def mentions_env(value: Any) -> bool:
    """True if a text in ``value`` names an environment variable."""
    match value:
        case str():
            return bool(env_names(value))
        case dict():
            return any(map(mentions_env, value.values()))
        case list():
            return any(map(mentions_env, value))
        case _:
            return False


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a message with the most similar known name and all known names."""
    names = sorted(known)
    close = nearest(name, names)
    listed = _("Known are %(names)s.") % {"names": ", ".join(names)}
    return _("Did you mean %(name)s?") % {"name": close} + " " + listed if close else listed


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
    """Parse a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(_("Write a text."))
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Parse a text, or a list of texts."""
    if isinstance(value, list) and value:
        return tuple(map(text, value))
    return (text(value),)


def nullable(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a parser that accepts ``null`` too, which means: not checked."""
    return lambda value: None if value is None else parse(value)


def text_map(value: Any) -> dict[str, str]:
    """Parse an object of texts."""
    if not isinstance(value, dict):
        raise ValueError(_('Write an object of names and claims: {"email": "email"}.'))
    return {name: text(each) for name, each in value.items()}


def flag(value: Any) -> bool:
    """Parse true or false."""
    if not isinstance(value, bool):
        raise ValueError(_("Write true or false."))
    return value


def seconds(least: float, most: float) -> Callable[[Any], float]:
    """Return a parser for a number of seconds from ``least`` to ``most``."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            limits = {"least": f"{least:g}", "most": f"{most:g}"}
            raise ValueError(_("Write a number of seconds from %(least)s to %(most)s.") % limits)
        return float(value)

    return parse
