"""Routes of an http server, and of the sse servers behind it, as entries of a gateway.

One entry for each route of the http server, in order, so that guards, narrowing and order stay exact (section 2.6 of
the reference's page): the first whose conditions match and whose guards pass is the only one tried. A route that leads to
something else, or whose sse server may turn a request away, leaves an entry without routes: a barrier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from django.utils.translation import gettext as _

from kafkaproxy.specs.types import EntryConditionSpec, EntrySpec, RouteSpec
from kafkaproxy.zilla.bindings.grammar import MAPPINGS
from kafkaproxy.zilla.bindings.graph import Binding, Exit
from kafkaproxy.zilla.importer.context import ImportContext
from kafkaproxy.zilla.importer.mapping import routes
from kafkaproxy.zilla.importer.patterns import entry_pattern, is_checked, methods
from kafkaproxy.zilla.importer.security import guarded, merge_guards
from kafkaproxy.zilla.names import Names, entry_name
from kafkaproxy.zilla.yaml.tree import Branch, Leaf

__all__ = ["entries_of_http", "entries_of_mapping", "entries_of_sse"]

_PSEUDO: Final = {":scheme": "scheme", ":authority": "authority", ":path": "path", ":method": "method"}
_EVERY_PATH: Final = ("*", "/*")

Rows = tuple[EntryConditionSpec, ...]


def entries_of_http(http: Binding, listener: Rows, context: ImportContext) -> tuple[EntrySpec, ...]:
    """Return the entries of an http server. ``listener`` is what the ways to it test, as a level of its own."""
    names = Names()
    _refuse_rewrites(http, context)
    found = (entry for exit_ in http.exits for entry in _of_route(http, exit_, context))
    return tuple(_finished(entry, listener, names) for entry in found)


def entries_of_sse(sse: Binding, context: ImportContext) -> tuple[EntrySpec, ...]:
    """Return the entries of an sse server that stands alone, in a fragment."""
    names = Names()
    whole = EntrySpec(name=sse.name, place=sse.place)
    return tuple(_finished(entry, (), names) for entry in _of_sse(whole, sse, context))


def entries_of_mapping(mapping: Binding, context: ImportContext) -> tuple[EntrySpec, ...]:
    """Return the one entry of a mapping that stands alone, in a fragment."""
    return (_finished(EntrySpec(name="", routes=routes(mapping, context), place=mapping.place), (), Names()),)


def _finished(entry: EntrySpec, listener: Rows, names: Names) -> EntrySpec:
    """Give the entry its name, and its levels their numbers."""
    name = names.take(entry_name(entry.conditions, entry.name))
    levels = {level: number for number, level in enumerate(sorted({row.level for row in entry.conditions}))}
    conditions = [replace(row, level=levels[row.level]) for row in entry.conditions]
    conditions += [replace(row, level=len(levels)) for row in listener]
    return replace(entry, name=name, conditions=tuple(conditions))


def _of_route(http: Binding, exit_: Exit, context: ImportContext) -> Iterator[EntrySpec]:
    entry = EntrySpec(
        name=exit_.target.replace(":", "-"),
        conditions=tuple(_conditions(http, exit_, context)),
        guarded=guarded(exit_, http, context),
        place=exit_.place,
    )
    target = context.graph.target(http, exit_)
    if target is not None and (target.type, target.kind) == ("sse", "server") and target.key in context.graph.upstream():
        yield from _of_sse(entry, target, context)
    elif target is not None and target.type == "http-kafka":
        yield replace(entry, routes=routes(target, context))
    else:
        if target is not None and target.key in context.graph.upstream():
            message = _("%(target)s cannot come directly after an http server.") % {"target": target}
            context.report.refuse(exit_.place, message, _("Lead to an http-kafka binding, or to an sse server."))
        what = str(target) if target is not None else _("binding %(target)r") % {"target": exit_.target}
        context.report.ignore(exit_.place, _("The %(what)s is not imported: what leads to it stays unserved.") % {"what": what})
        yield entry


def _of_sse(outer: EntrySpec, sse: Binding, context: ImportContext) -> Iterator[EntrySpec]:
    """Return an entry for each route of an sse server, and a barrier where none of them may take the request."""
    _read_sse_options(sse, context)
    for exit_ in sse.exits:
        conditions = tuple(_sse_conditions(sse, exit_, context))
        inner = guarded(exit_, sse, context)
        yield replace(
            outer,
            conditions=outer.conditions + conditions,
            guarded=merge_guards(outer.guarded, inner),
            routes=_sse_routes(sse, exit_, context),
        )
        if not conditions and not inner:
            return
    yield outer


def _sse_routes(sse: Binding, exit_: Exit, context: ImportContext) -> tuple[RouteSpec, ...]:
    target = context.graph.target(sse, exit_)
    if target is not None and target.type == "sse-kafka":
        return routes(target, context)
    if target is not None and target.type in MAPPINGS:
        context.report.refuse(
            exit_.place,
            _("%(target)s cannot come after an sse server.") % {"target": target},
            _("Lead to an sse-kafka binding."),
        )
    context.report.ignore(
        exit_.place, _("%(target)r is not imported: what leads to it stays unserved.") % {"target": exit_.target}
    )
    return ()


def _read_sse_options(sse: Binding, context: ImportContext) -> None:
    if "requests" in sse.options:
        message = _("Models of events are not supported yet: they decide which events are sent.")
        context.report.refuse(sse.at(sse.options.line_of("requests")), message, _("Remove them if the producer checks events."))
    if "retry" in sse.options:
        context.report.ignore(sse.at(sse.options.line_of("retry")), _("retry: the reference never sends it."))


def _refuse_rewrites(http: Binding, context: ImportContext) -> None:
    """Refuse options that change or check requests before routing; report options that do not matter."""
    options = http.options
    if "requests" in options:
        message = _("Models of requests are not supported yet: they decide which requests are accepted.")
        context.report.refuse(http.at(options.line_of("requests")), message, _("Remove them if the service checks requests."))
    if "versions" in options:
        context.report.ignore(http.at(options.line_of("versions")), _("versions: they are the ASGI server's."))
    for branch in (options, *(exit_.options for exit_ in http.exits)):
        headers = branch.branch("headers") if branch is not None and branch is not options else branch
        if headers is not None and "overrides" in headers:
            message = _("Overrides of request fields are not supported: they change what later conditions see.")
            context.report.refuse(http.at(headers.line_of("overrides")), message, _("Rewrite requests in front of Django."))
    for exit_ in http.exits:
        if exit_.options is not None and "affinity" in exit_.options:
            place = http.at(exit_.options.line_of("affinity"))
            context.report.ignore(place, _("affinity: any process of kafkaproxy serves any client."))


def _conditions(http: Binding, exit_: Exit, context: ImportContext) -> Iterator[EntryConditionSpec]:
    """Yield the alternatives of a route; none at all if one of them tests nothing."""
    rows = [row for when in exit_.when for row in _alternatives(http, when.branch("headers"), context)]
    if EntryConditionSpec() not in rows:
        yield from rows


def _alternatives(http: Binding, headers: Branch | None, context: ImportContext) -> Iterator[EntryConditionSpec]:
    """Return one condition, or one for each of several methods."""
    parts: dict[str, Any] = {}
    fields: list[tuple[str, str]] = []
    wanted: Sequence[str] = ("",)
    for name, value in headers.text_items() if headers is not None else ():
        place = http.at(value.line)
        if name.text == ":method":
            wanted = list(methods(value, place, context.report))
        elif not is_checked(value, place, context.report) or (name.text == ":path" and value.text in _EVERY_PATH):
            continue
        elif name.text in _PSEUDO:
            if name.text == ":path":
                _check_path(http, value, context)
            parts[_PSEUDO[name.text]] = entry_pattern(value.text)
        else:
            fields.append((_field(http, name, fields, context), entry_pattern(value.text)))
        _check_authority(http, name, value, context)
    for method in wanted:
        yield EntryConditionSpec(method=method, headers=dict(fields), **parts)


def _field(http: Binding, name: Leaf, others: Sequence[tuple[str, str]], context: ImportContext) -> str:
    if any(name.text.lower() == other for other, _ in others):
        message = _("%(name)r stands twice in this condition.") % {"name": name.text.lower()}
        context.report.refuse(http.at(name.line), message, _("Remove one of them: names of fields have no case."))
    elif name.text.startswith(":"):
        message = _("There is no field %(name)r in a request.") % {"name": name.text}
        context.report.refuse(
            http.at(name.line), message, _("Known are %(known)s, and any other field.") % {"known": ", ".join(_PSEUDO)}
        )
    elif name.text != name.text.lower():
        message = _("The reference compares names of fields in lower case, and never finds %(name)r.") % {"name": name.text}
        context.report.warn(http.at(name.line), message, _("It is imported in lower case, and matches."))
    return name.text.lower()


def _check_path(http: Binding, value: Leaf, context: ImportContext) -> None:
    if not value.text.startswith(("/", "*", "{", "$")):
        message = _("%(value)r does not begin with a slash, and a path always does: it never matches.") % {"value": value.text}
        context.report.warn(http.at(value.line), message, _("Write /%(value)s.") % {"value": value.text})


def _check_authority(http: Binding, name: Leaf, value: Leaf, context: ImportContext) -> None:
    if name.text == ":authority" and ":" not in value.text and not value.text.endswith(("*", "}")):
        message = _("%(value)r has no port, and an authority always has one when it is compared: it never matches.") % {
            "value": value.text
        }
        context.report.warn(http.at(value.line), message, _("Write %(value)s:443, or %(value)s:*.") % {"value": value.text})


def _sse_conditions(sse: Binding, exit_: Exit, context: ImportContext) -> Iterator[EntryConditionSpec]:
    rows: list[EntryConditionSpec] = []
    for when in exit_.when:
        path = when.get("path")
        if isinstance(path, Leaf) and is_checked(path, sse.at(path.line), context.report) and "{" in path.text:
            message = _("%(path)r: an sse server knows no parameters.") % {"path": path.text}
            context.report.refuse(sse.at(path.line), message, _("Write * here, and the parameter in the sse-kafka route."))
        text = path.text if isinstance(path, Leaf) and path.text not in _EVERY_PATH else ""
        rows.append(EntryConditionSpec(level=1, path=text))
    if all(row.path for row in rows):
        yield from rows
