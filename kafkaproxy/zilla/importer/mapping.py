"""Routes of http-kafka and sse-kafka bindings, as routes of an entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from kafkaproxy.core.env import mask_env
from kafkaproxy.core.expressions import Template, TemplatePlace
from kafkaproxy.core.names import may_name_topic
from kafkaproxy.core.paths import TemplateError
from kafkaproxy.specs.types import ConditionSpec, FieldSpec, FilePlace, FilterSpec, RouteSpec
from kafkaproxy.zilla.bindings.graph import Binding, Exit
from kafkaproxy.zilla.importer.context import ImportContext
from kafkaproxy.zilla.importer.kafka import Destination, destination
from kafkaproxy.zilla.importer.patterns import is_checked, methods
from kafkaproxy.zilla.importer.security import guarded, merge_guards, require_guard
from kafkaproxy.zilla.names import Names, route_name
from kafkaproxy.zilla.yaml.tree import Branch, Leaf

__all__ = ["gateway_fields", "routes"]

_KEYED_EVENT: Final = '["${base64(key)}","${etag}"]'
_FIELDS: Final = {"reply-to": "reply_to", "async": "async_fields", "correlation-id": "correlation_header"}
"""Properties of ``with`` whose field has another name."""
_METHODS: Final = {"produce": gettext_noop("POST, PUT, PATCH and DELETE"), "fetch": gettext_noop("GET and HEAD")}
_TOPICS: Final = (TemplatePlace.TOPIC, TemplatePlace.REPLY_TO)
_PATCH: Final = {"initial": "[]", "path": "/-"}


def routes(mapping: Binding, context: ImportContext) -> tuple[RouteSpec, ...]:
    """Return the routes of a mapping, in order; what is refused is in the report, and left out."""
    names = Names()
    found = (_route(mapping, exit_, names, context) for exit_ in mapping.exits)
    return tuple(route for route in found if route is not None)


def gateway_fields(mapping: Binding) -> dict[str, str]:
    """Return the fields of a gateway that the options of an http-kafka binding set."""
    idempotency = mapping.options.branch("idempotency")
    correlation = mapping.options.branch("correlation")
    headers = correlation.branch("headers") if correlation is not None else None
    found = {
        "idempotency_header": idempotency.text("header").lower() if idempotency is not None else "",
        "reply_to_header": headers.text("reply-to") if headers is not None else "",
        "correlation_header": headers.text("correlation-id") if headers is not None else "",
    }
    return {name: value for name, value in found.items() if value}


def _route(mapping: Binding, exit_: Exit, names: Names, context: ImportContext) -> RouteSpec | None:
    with_ = exit_.options
    if with_ is None:
        return None
    _check_templates(mapping, with_, context)
    where = _destination(mapping, exit_, with_, context)
    if where is None:
        return None
    conditions = tuple(_conditions(mapping, exit_, context))
    capability = with_.text("capability", "stream")
    _warn_of_methods(mapping, exit_, capability, conditions, context)
    return RouteSpec(
        name=names.take(route_name(capability, conditions, with_.text("topic"))),
        capability=capability,
        cluster=where.cluster,
        topic=with_.text("topic"),
        conditions=conditions,
        guarded=merge_guards(guarded(exit_, mapping, context), where.guarded),
        place=exit_.place,
        places=_places(mapping, exit_, with_),
        filters=tuple(_filters(mapping, with_, context)),
        **_capability_fields(mapping, with_, capability, context),
    )


def _destination(mapping: Binding, exit_: Exit, with_: Branch, context: ImportContext) -> Destination | None:
    """Return where the topic is, and with it the topic of the replies; None where either was refused."""
    where = destination(mapping, exit_, with_.text("topic"), context)
    if "reply-to" not in with_ or where is None:
        return where
    replies = destination(mapping, exit_, with_.text("reply-to"), context)
    if replies is None:
        return None
    if replies.cluster != where.cluster:
        message = _("The replies are on another cluster than the requests.")
        context.report.refuse(mapping.at(with_.line_of("reply-to")), message, _("Let both topics take the same way."))
    return Destination(where.cluster, merge_guards(where.guarded, replies.guarded))


def _warn_of_methods(
    mapping: Binding, exit_: Exit, capability: str, conditions: tuple[ConditionSpec, ...], context: ImportContext
) -> None:
    """Warn which methods a route without one serves: the reference takes any (divergence D3)."""
    served = _METHODS.get(capability)
    if served is not None and (not conditions or any(not each.method for each in conditions)):
        line = exit_.when[0].line if exit_.when else exit_.place.line
        message = _("A %(capability)s route without a method serves %(served)s; the reference takes any.") % {
            "capability": capability,
            "served": served,
        }
        context.report.warn(mapping.at(line), message, _("Write the methods if it shall serve others."))


def _capability_fields(mapping: Binding, with_: Branch, capability: str, context: ImportContext) -> dict[str, Any]:
    if capability == "produce":
        return {
            "key": with_.text("key") if "key" in with_ else None,
            "acks": with_.text("acks", "in_sync_replicas"),
            "reply_to": with_.text("reply-to"),
            "correlation_header": with_.text("correlation-id"),
            "overrides": _fields(with_, "overrides"),
            "async_fields": _fields(with_, "async"),
        }
    if capability == "fetch":
        _check_patch(mapping, with_.branch("merge"), context)
        return {"merge": "merge" in with_}
    event = with_.branch("event")
    keyed = event is not None and event.text("id") == _KEYED_EVENT
    return {"event_id": "key_and_etag" if keyed else "etag"}


def _check_patch(mapping: Binding, merge: Branch | None, context: ImportContext) -> None:
    """Report ``patch`` as ignored: the reference never reads it, and always merges in this way."""
    patch = merge.get("patch") if merge is not None else None
    if patch is None or merge is None:
        return
    place = mapping.at(merge.line_of("patch"))
    if isinstance(patch, Branch) and {key.text: value.text for key, value in patch.text_items()} == _PATCH:
        context.report.ignore(place, _("merge.patch: records are always appended to a JSON array."))
    else:
        context.report.refuse(place, _("Only one merge.patch is known."), _('Write initial: "[]" and path: /-, or remove it.'))


def _fields(branch: Branch, name: str) -> tuple[FieldSpec, ...]:
    inner = branch.branch(name)
    return tuple(FieldSpec(key.text, value.text) for key, value in inner.text_items()) if inner is not None else ()


def _places(mapping: Binding, exit_: Exit, with_: Branch) -> Mapping[str, FilePlace]:
    found = {_FIELDS.get(key.text, key.text): mapping.at(key.line) for key, _ in with_.pairs}
    if exit_.when:
        found["conditions"] = mapping.at(exit_.when[0].line)
    if exit_.guarded:
        found["guarded"] = mapping.at(exit_.guarded[0][0].line)
    return found


def _conditions(mapping: Binding, exit_: Exit, context: ImportContext) -> Iterator[ConditionSpec]:
    """Yield the conditions; none if the only one tests nothing."""
    for when in exit_.when:
        path, method = when.get("path"), when.get("method")
        if isinstance(path, Leaf):
            is_checked(path, mapping.at(path.line), context.report)
        text = path.text if isinstance(path, Leaf) and path.text != "*" else ""
        found = methods(method, mapping.at(method.line), context.report) if isinstance(method, Leaf) else iter([""])
        for each in found:
            if text or each or len(exit_.when) > 1:
                yield ConditionSpec(method=each, path=text)


def _filters(mapping: Binding, with_: Branch, context: ImportContext) -> Iterator[FilterSpec]:
    for each in with_.branches("filters"):
        if not each.pairs:
            message = _("An empty filter matches every record.")
            context.report.refuse(mapping.at(each.line), message, _("Give it a key or headers, or remove all filters."))
        yield FilterSpec(key=each.text("key") if "key" in each else None, headers=dict(_fields(each, "headers")))


def _templates(with_: Branch) -> Iterator[tuple[Leaf, TemplatePlace]]:
    for name, place in (
        ("topic", TemplatePlace.TOPIC),
        ("key", TemplatePlace.KEY),
        ("reply-to", TemplatePlace.REPLY_TO),
    ):
        if isinstance(leaf := with_.get(name), Leaf):
            yield leaf, place
    for name, place in (("overrides", TemplatePlace.OVERRIDE), ("async", TemplatePlace.ASYNC)):
        if (inner := with_.branch(name)) is not None:
            yield from ((value, place) for _, value in inner.text_items())
    for each in with_.branches("filters"):
        inner = each.branch("headers")
        leaves = [each.get("key"), *(value for _, value in (inner.text_items() if inner is not None else ()))]
        yield from ((leaf, TemplatePlace.FILTER) for leaf in leaves if isinstance(leaf, Leaf))


def _check_templates(mapping: Binding, with_: Branch, context: ImportContext) -> None:
    """Check each expression at its own line, and import the guards that they name."""
    for leaf, place in _templates(with_):
        try:
            template = Template.parse(mask_env(leaf.text), place)
        except TemplateError as error:
            context.report.refuse(mapping.at(leaf.line), str(error))
            continue
        if place in _TOPICS and not may_name_topic(template):
            context.report.refuse(
                mapping.at(leaf.line),
                _("%(leaf)r is not the name of a topic.") % {"leaf": leaf.text},
                _("Use up to 249 letters, digits, '.', '_' and '-'."),
            )
        for guard in sorted(template.guard_names):
            require_guard(guard, mapping, mapping.at(leaf.line), context)
