"""``x-zilla-http-kafka`` and ``x-zilla-sse-kafka``: filters, key and overrides, with ``{identity}`` as a whole value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.zilla.bindings.shape import ANYTHING, Items, NamedItems, Properties, Text
from kafkaproxy.zilla.expand.operations import Source
from kafkaproxy.zilla.expand.specification import ExpandError
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, mapping, text

__all__ = ["check_extension", "filters", "key", "overrides"]

_IDENTITY: Final = "{identity}"
_FILTERS: Final = Items(Properties(known={"key": Text(), "headers": NamedItems(Text(), free=True)}))
_OVERRIDES: Final = NamedItems(Text(), free=True)
_IDLE: Final = ("method", "bindingVersion")
"""Properties that the reference does not read."""
_SHAPE: Final = Properties(
    known={"filters": _FILTERS, "key": Text(), "overrides": _OVERRIDES, "method": ANYTHING, "bindingVersion": ANYTHING}
)


def check_extension(source: Source, *, produces: bool, report: ImportReport) -> None:
    """Refuse what is unknown in an operation's extension, and name what has no effect."""
    extension = source.extension
    if extension is None:
        return
    for problem in _SHAPE.problems(extension, f"The extension of {source}"):
        report.refuse(source.specification.at(problem.line), problem.message, problem.advice)
    if not produces and not source.is_stream and "filters" in extension and "{" in source.path.text:
        message = gettext(
            "%(source)s serves what has the key of its path, or else passes a filter: alternatives, as in the reference."
        ) % {"source": source}
        report.warn(source.specification.at(extension.line_of("filters")), message, gettext("Let the path have no parameter."))
    idle = (*_IDLE, "filters") if produces else (*_IDLE, "key", "overrides")
    for name in idle:
        if name in extension:
            message = gettext("%(name)s of the extension of %(source)s: it has no effect there.") % {
                "name": name,
                "source": source,
            }
            report.ignore(source.specification.at(extension.line_of(name)), message)


def filters(source: Source, identity: Leaf | None) -> list[Branch]:
    """Return the filters, each as a route has it."""
    items = source.extension.branches("filters") if source.extension is not None else ()
    return [_filter(source, item, identity) for item in items]


def _filter(source: Source, item: Branch, identity: Leaf | None) -> Branch:
    own, headers = item.get("key"), item.branch("headers")
    return mapping(
        item.line,
        {
            "key": _value(source, own, identity) if isinstance(own, Leaf) else None,
            "headers": _values(source, headers, identity) if headers is not None else None,
        },
    )


def key(source: Source, identity: Leaf | None) -> Leaf | None:
    """Return the key that the extension wants."""
    found = source.extension.get("key") if source.extension is not None else None
    return _value(source, found, identity) if isinstance(found, Leaf) else None


def overrides(source: Source, identity: Leaf | None) -> Branch | None:
    """Return the record headers that the extension sets."""
    found = source.extension.branch("overrides") if source.extension is not None else None
    return _values(source, found, identity) if found is not None else None


def _values(source: Source, node: Branch, identity: Leaf | None) -> Branch:
    pairs: Iterable[tuple[Leaf, Leaf]] = node.text_items()
    return Branch(tuple((name, _value(source, value, identity)) for name, value in pairs), node.line)


def _value(source: Source, value: Leaf, identity: Leaf | None) -> Leaf:
    if value.text != _IDENTITY:
        return value
    if identity is None:
        message = gettext("Nobody's identity is meant by {identity}: no guard is known for %(source)s.") % {"source": source}
        advice = gettext("Give the operation a security scheme, and name a guard for it under security of the specification.")
        raise ExpandError(source.specification.at(value.line), message, advice)
    return text(f"${{guarded['{identity.text}'].identity}}", value.line)
