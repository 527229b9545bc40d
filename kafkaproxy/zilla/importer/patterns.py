"""Patterns of conditions, translated so that they match what they match in the reference.

There, ``.`` is literal, ``*`` is anything, ``{name}`` one or more of anything, and whatever else is special in a regular
expression still is. Here all but ``*`` and ``{name}`` is literal, so a pattern that relies on more is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from django.utils.translation import gettext as _

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.names import is_method
from kafkaproxy.core.paths import PathTemplate, TemplateError
from kafkaproxy.specs.types import FilePlace
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Leaf

__all__ = ["entry_pattern", "is_any_address", "is_checked", "methods"]

_SPECIAL: Final = re.compile(r"[\\^$|?+()\[\]]")
_PARAM: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}(?!\*)")


def is_checked(leaf: Leaf, place: FilePlace, report: ImportReport) -> bool:
    """Return True if the pattern means the same here; refuse it otherwise."""
    text = mask_env(leaf.text)
    if found := _SPECIAL.search(text):
        message = _("%(leaf)r has %(found)r, which the reference reads as part of a regular expression.") % {
            "leaf": leaf.text,
            "found": found[0],
        }
        report.refuse(place, message, _("Only * and {name} stand for something here: write several conditions instead."))
        return False
    try:
        PathTemplate.parse(text)
    except TemplateError as error:
        report.refuse(place, str(error))
        return False
    return True


def entry_pattern(text: str) -> str:
    """Let ``{name}`` match ``/`` too, as it does in the reference's http server.

    Inside a route a parameter ends at ``/`` (divergence D1). In the outer rule that would let requests fall through to later
    entries, past the guards of this one. Nothing reads an entry's parameter, so ``*`` is exact and enough.
    """
    return _PARAM.sub(r"{\1}*", text)


def is_any_address(name: str, text: str) -> bool:
    """Return True if a condition of a tcp binding, ``cidr`` or ``authority``, holds for every address."""
    return text.endswith("/0") if name == "cidr" else text == "*"


def methods(leaf: Leaf, place: FilePlace, report: ImportReport) -> Iterator[str]:
    """Return the methods of a condition; any is the empty text. ``GET|POST`` works in the reference by accident."""
    if leaf.text == "*":
        yield ""
        return
    for method in leaf.text.split("|"):
        if is_method(method):
            yield method
        else:
            report.refuse(
                place, _("%(leaf)r is not a method.") % {"leaf": leaf.text}, _("Write one, such as GET, or * for any.")
            )
