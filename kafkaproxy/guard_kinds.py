"""The kinds of guards, and the check of a guard's options. The model asks here; the guards themselves are above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from kafkaproxy.core.names import nearest

__all__ = ["Factory", "OptionError", "check_guard", "find_factory", "kinds", "register", "suggest"]

Factory = Callable[[Any], Any]
"""Takes a ``GuardConfig`` (``kafkaproxy.routing.table``), returns a ``GuardBackend`` (``kafkaproxy.guards.base``)."""

_kinds: dict[str, Factory | str] = {
    "jwt": "kafkaproxy.guards.jwt.JwtGuard",
    "session": "kafkaproxy.guards.session.SessionGuard",
    "simplejwt": "kafkaproxy.guards.simplejwt.SimpleJwtGuard",
}
"""Factories by kind; a text is where the factory is imported from when it is used."""


class OptionError(ValueError):
    """Options that the kind cannot use. The admin shows each of ``problems``: a sentence that says what to write instead."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        """The sentences."""
        super().__init__(" ".join(self.problems))


def register(kind: str, factory: Factory) -> None:
    """Make a kind of guard known; call it in ``AppConfig.ready()``.

    ``factory``, usually the class of the guard, takes a :class:`GuardConfig`. It raises ``ValueError`` for options that it
    cannot use: such a guard refuses every request, and the log says why. If it has a static method ``check(options)``, that is
    called whenever a guard of the kind is saved, and raises :class:`OptionError` with what to write instead.
    """
    _kinds[kind] = factory


def kinds() -> list[str]:
    """Return the names of the known kinds, sorted."""
    return sorted(_kinds)


def find_factory(kind: str) -> Factory | None:
    """Return the factory of a kind; None for an unknown one."""
    known = _kinds.get(kind)
    factory: Factory | None = import_string(known) if isinstance(known, str) else known
    return factory


def check_guard(kind: str, options: Mapping[str, Any]) -> None:
    """Raise ``ValidationError`` for an unknown kind, or for options that the kind cannot use."""
    factory = find_factory(kind)
    if factory is None:
        message = _("%(kind)s is not a kind of guard.") % {"kind": kind}
        raise ValidationError({"kind": f"{message} {suggest(kind, _kinds)}"})
    check: Callable[[Mapping[str, Any]], None] | None = getattr(factory, "check", None)
    if check is not None:
        try:
            check(options)
        except OptionError as error:
            raise ValidationError({"options": error.problems}) from None


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known name that is closest to ``name``, if one is close, and all known names."""
    names = sorted(known)
    close = nearest(name, names)
    listed = _("Known are %(names)s.") % {"names": ", ".join(names)}
    return _("Did you mean %(name)s?") % {"name": close} + " " + listed if close else listed
