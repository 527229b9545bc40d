"""Which operation on Kafka each operation of an API is: by the routes of a proxy, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from django.utils.translation import gettext

from kafkaproxy.zilla.bindings.shape import suggest
from kafkaproxy.zilla.expand import asyncapi, openapi
from kafkaproxy.zilla.expand.composite import Choice, Composite, Selection
from kafkaproxy.zilla.expand.operations import Source, Target, check_extension
from kafkaproxy.zilla.expand.rules import later_path
from kafkaproxy.zilla.expand.specification import Catalogs, ExpandError, Specification, reported
from kafkaproxy.zilla.report import ImportReport
from kafkaproxy.zilla.yaml.tree import Leaf

__all__ = ["Pair", "Proxy", "read_proxy", "read_sources"]

_TWO_KINDS: Final = "openapi-asyncapi"
_MOST: Final = 1000
"""Operations of one specification: what overlaps is looked for among all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A source operation and its target, and the exit of the route that brought them together."""

    source: Source
    target: Target
    exit: Leaf
    asks: Source | None = None
    """The source operation by which clients ask for the answer of this one."""


@dataclass(frozen=True, slots=True, eq=False)
class Proxy:
    """A proxy between an API and Kafka: its pairs, in the order in which they are tried."""

    composite: Composite
    sources: tuple[Source, ...]
    pairs: tuple[Pair, ...]
    targets: tuple[tuple[Leaf, Specification], ...]
    """Each exit, and the specification that its client has to have."""


def read_sources(specification: Specification, report: ImportReport) -> list[Source]:
    """Return the operations that clients see."""
    read = asyncapi.sources if specification.kind == "asyncapi" else openapi.sources
    found = list(islice(read(specification, report), _MOST + 1))
    if len(found) > _MOST:
        message = gettext("%(specification)r has more than %(most)s operations.") % {
            "specification": specification.label,
            "most": _MOST,
        }
        raise ExpandError(specification.at(found[-1].line), message, gettext("Split it into several specifications."))
    return found


def read_proxy(composite: Composite, catalogs: Catalogs, report: ImportReport) -> Proxy:
    """Return the pairs of a proxy; raise ``ExpandError`` where its specifications cannot be read."""
    two_kinds = composite.type == _TWO_KINDS
    above = composite.specifications(catalogs, "openapi" if two_kinds else "asyncapi", nested=two_kinds)
    below = composite.specifications(catalogs, "asyncapi", nested=two_kinds) if two_kinds else above
    operations = {each.label: read_sources(each, report) for each in above if _is_source(composite, each)}
    pairs: list[Pair] = []
    exits: list[tuple[Leaf, Specification]] = []
    for choice in composite.choices():
        with reported(report):
            specification = _below(composite, choice, below)
            exits.append((choice.exit, specification))
            for when in choice.when or (Selection(),):
                _check_when(composite, when, above)
                for source in _selected(when, operations):
                    with reported(report):
                        pairs += _pair(composite, choice, source, specification, report)
    asked = tuple(_asked(pairs, operations, report))
    sources = tuple(source for found in operations.values() for source in found)
    _list_unserved(sources, asked, report)
    return Proxy(composite, sources, asked, tuple(exits))


def _list_unserved(sources: tuple[Source, ...], pairs: tuple[Pair, ...], report: ImportReport) -> None:
    served = {id(each) for pair in pairs for each in (pair.source, pair.asks)}
    for source in sources:
        if id(source) not in served:
            message = gettext("%(source)s has no operation on Kafka, and stays unserved.") % {"source": source}
            advice = gettext("Give one the same name, or name it in a route of the proxy.")
            report.warn(source.specification.at(source.line), message, advice)


def _is_source(composite: Composite, specification: Specification) -> bool:
    """Return True if a document is the API of a proxy: not one that its routes only lead to."""
    choices = list(composite.choices())
    leads_to = {choice.with_.spec.text for choice in choices if choice.with_.spec is not None}
    named = {when.spec.text for choice in choices for when in choice.when if when.spec is not None}
    return specification.kind == "openapi" or specification.label not in leads_to - named


def _below(composite: Composite, choice: Choice, below: list[Specification]) -> Specification:
    """Return the specification of Kafka that a route names."""
    label = choice.with_.spec
    if label is None:
        message = gettext("The route to %(exit)r does not say which specification of Kafka it uses.") % {
            "exit": choice.exit.text
        }
        raise ExpandError(composite.at(choice.line), message, gettext("Write it as spec under with."))
    if choice.with_.tag is not None and (choice.with_.operation is not None or composite.type != _TWO_KINDS):
        message = gettext("A tag cannot stand here.")
        raise ExpandError(composite.at(choice.with_.tag.line), message, gettext("Name the operation, or leave both out."))
    return composite.named(label, below)


def _check_when(composite: Composite, when: Selection, above: list[Specification]) -> None:
    if when.spec is not None:
        composite.named(when.spec, above)
    if when.tag is not None and when.operation is not None:
        message = gettext("Operations are selected by name and by tag at once.")
        raise ExpandError(composite.at(when.tag.line), message, gettext("Keep one of them."))


def _selected(when: Selection, operations: dict[str, list[Source]]) -> Iterator[Source]:
    for label, sources in operations.items():
        yield from (each for each in sources if when.admits(label, each.name, each.tags))


def _pair(
    composite: Composite, choice: Choice, source: Source, specification: Specification, report: ImportReport
) -> Iterator[Pair]:
    target = _target(composite, choice.with_, source, specification)
    if target is None:
        return
    if source.is_stream and target.sends:
        message = gettext("%(source)s is a stream, and %(target)r on Kafka sends.") % {"source": source, "target": target.name}
        raise ExpandError(specification.at(target.line), message, gettext("Pair it with an operation that receives."))
    check_extension(source, produces=target.sends, report=report)
    yield Pair(source, target, choice.exit)


def _target(composite: Composite, with_: Selection, source: Source, specification: Specification) -> Target | None:
    """Return the operation that a route names, or else the one of the same name."""
    wanted = with_.operation
    if wanted is None or "*" in wanted.text:
        found = asyncapi.target(specification, source.name) if source.name else None
        return found if found is not None and with_.admits(specification.label, found.name, found.tags) else None
    found = asyncapi.target(specification, wanted.text)
    if found is None:
        message = gettext("There is no operation %(wanted)r in %(specification)r.") % {
            "wanted": wanted.text,
            "specification": specification.label,
        }
        raise ExpandError(composite.at(wanted.line), message, suggest(wanted.text, asyncapi.target_names(specification)))
    return found


def _asked(pairs: list[Pair], operations: dict[str, list[Source]], report: ImportReport) -> Iterator[Pair]:
    """Return the pairs, with what clients ask for later answers; such an operation has nothing of its own then."""
    taken: set[tuple[str, str]] = set()
    for pair in pairs:
        where = pair.source.method.text, pair.source.path.text
        if where in taken:
            message = gettext("%(source)s asks for answers of an operation before it, and does nothing else.") % {
                "source": pair.source
            }
            report.ignore(pair.source.specification.at(pair.source.line), message)
            continue
        asks = _asks(pair, pairs, operations)
        _warn_of_others(pair, asks, pairs, operations, report)
        if asks is not None:
            taken.add((asks.method.text, asks.path.text))
        yield Pair(pair.source, pair.target, pair.exit, asks)


def _asks(pair: Pair, pairs: list[Pair], operations: dict[str, list[Source]]) -> Source | None:
    path = later_path(pair.source, pair.target)
    if not path or (pair.source.method.text == "GET" and pair.source.path.text == path):
        return None
    for source in operations[pair.source.specification.label]:
        if source.method.text == "GET" and source.path.text == path and not source.is_stream:
            own = any(each.source is source for each in pairs)
            return None if own and source.specification.kind == "openapi" else source
    return None


def _warn_of_others(
    pair: Pair, asks: Source | None, pairs: list[Pair], operations: dict[str, list[Source]], report: ImportReport
) -> None:
    """Warn of AsyncAPI operations with a parameter in their path: the reference serves status polls there too."""
    specification = pair.source.specification
    if specification.kind != "asyncapi" or not later_path(pair.source, pair.target):
        return
    before = {id(each.source) for each in pairs[: pairs.index(pair)]}
    for source in operations[specification.label]:
        if "{" in source.path.text and not source.is_stream and source is not asks and id(source) not in before:
            message = gettext(
                "%(source)s: the reference takes it for asking for answers of %(other)s, as its path has a parameter."
            ) % {"source": source, "other": pair.source}
            report.warn(
                specification.at(source.line), message, gettext("It does not ask here. Describe it before the other one.")
            )
