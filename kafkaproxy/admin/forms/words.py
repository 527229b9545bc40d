"""What a route or an entry does, in words: “PUT /items/{id} → topic items-requests, key = id, waits for items-responses”."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from django.utils.text import get_text_list
from django.utils.translation import gettext as _

from kafkaproxy.admin.forms.drafts import draft_route
from kafkaproxy.core.capabilities import Capability, served_methods
from kafkaproxy.core.env import env_names, mask_env
from kafkaproxy.core.expressions import Attribute, Expression, IdempotencyKey, Identity, Parameter, Template, TemplatePlace
from kafkaproxy.core.paths import PathTemplate, TemplateError
from kafkaproxy.models import Route
from kafkaproxy.routing.polling import is_poll, poll_template
from kafkaproxy.routing.unreachable import shadowed_routes
from kafkaproxy.specs.types import ConditionSpec, EntrySpec, FilterSpec, RouteSpec

__all__ = ["MOST_ROUTES", "described_routes", "entry_sentence", "route_sentence", "template_words"]

MOST_ROUTES: Final = 200
"""The most routes that the page of an entry or a gateway shows."""

_METHOD_ORDER: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


def route_sentence(route: RouteSpec) -> str:
    """Say what the route does; an empty text while its capability is not chosen."""
    match route.capability:
        case Capability.PRODUCE:
            does = _produce(route)
        case Capability.FETCH:
            does = _fetch(route)
        case Capability.STREAM:
            does = _stream(route)
        case _:
            return ""
    sentence = f"{_requests(route)} → {', '.join(does)}"
    return f"{sentence}{_for_whom(route.guarded)}"


def described_routes(routes: Iterable[Route]) -> list[tuple[Route, str, str]]:
    """Return routes, which are in order, with their sentences; the third is a warning where an earlier route hides one."""
    found = [(route, draft_route(route)) for route in routes]
    enabled: defaultdict[int, list[RouteSpec]] = defaultdict(list)
    for route, spec in found:
        if route.enabled:
            enabled[route.entry_id].append(spec)
    issues = ((entry, issue) for entry, each in enabled.items() for issue in shadowed_routes(each))
    hidden = {(entry, issue.subject): issue.message for entry, issue in issues}
    return [(route, route_sentence(spec), hidden.get((route.entry_id, route.name), "")) for route, spec in found]


def entry_sentence(entry: EntrySpec) -> str:
    """Say which requests the entry takes."""
    levels: dict[int, list[str]] = {}
    for condition in entry.conditions:
        origin = f"{condition.scheme}://{condition.authority or '*'}" if condition.scheme else condition.authority
        parts = [condition.method, f"{origin}{condition.path}" or "*"]
        parts += [f"{name}: {value}" for name, value in condition.headers.items()]
        levels.setdefault(condition.level, []).append(" ".join(part for part in parts if part))
    requests = _(" and ").join(_any_of(alternatives) for alternatives in levels.values()) or _("every request")
    return f"{requests}{_for_whom(entry.guarded)}"


def template_words(text: str, place: TemplatePlace) -> str:
    """Return a template in words: ``id`` for ``${params.id}``, ``order-{id}`` where it is a part, quoted where it is fixed."""
    try:
        template = Template.parse(text, place)
    except TemplateError:
        return text
    if env_names(text) or not text:
        return f"“{text}”"
    if len(template.parts) == 1 and not isinstance(template.parts[0], str):
        return _expression_words(template.parts[0])
    words = "".join(part if isinstance(part, str) else f"{{{_expression_words(part)}}}" for part in template.parts)
    return f"“{words}”"


def _expression_words(expression: Expression) -> str:
    match expression:
        case Parameter(name):
            return name
        case Identity(guard):
            return _("identity of %(guard)s") % {"guard": guard}
        case Attribute(guard, name):
            return _("%(attribute)s of %(guard)s") % {"attribute": name, "guard": guard}
        case IdempotencyKey():
            return _("idempotency key")
        case _:
            return _("correlation id")


def _topic(text: str, place: TemplatePlace = TemplatePlace.TOPIC) -> str:
    return template_words(text, place).strip("“”")


def _any_of(alternatives: Iterable[str]) -> str:
    return get_text_list(list(dict.fromkeys(alternatives)), _("or"))


def _requests(route: RouteSpec) -> str:
    conditions = [each for each in route.conditions if not _asks_for_outcome(route, each)] or [ConditionSpec()]
    return _any_of(f"{_methods(route, each)} {each.path or _('any path')}" for each in conditions)


def _asks_for_outcome(route: RouteSpec, condition: ConditionSpec) -> bool:
    try:
        return bool(route.async_fields) and is_poll(condition.method, PathTemplate.parse(mask_env(condition.path)))
    except TemplateError:
        return False


def _methods(route: RouteSpec, condition: ConditionSpec) -> str:
    written = condition.method if condition.method != "*" else ""
    methods = served_methods(Capability(route.capability), written or None) - {"HEAD"}  # which comes along with GET
    return "/".join(sorted(methods, key=lambda name: _METHOD_ORDER.index(name) if name in _METHOD_ORDER else 99)) or "HEAD"


def _produce(route: RouteSpec) -> list[str]:
    words = [_("topic %(topic)s") % {"topic": _topic(route.topic)}]
    key = _("no key") if route.key is None else _("key = %(key)s") % {"key": template_words(route.key, TemplatePlace.KEY)}
    words.append(key)
    if not route.reply_to:
        return [*words, _("answers 204 once Kafka has it")]
    topic = {"topic": _topic(route.reply_to, TemplatePlace.REPLY_TO)}
    if route.async_fields:
        return [*words, _("waits for %(topic)s, or answers 202 to clients that ask for it") % topic, *_outcome(route)]
    return [*words, _("waits for %(topic)s") % topic]


def _outcome(route: RouteSpec) -> list[str]:
    try:
        poll = poll_template(route)
    except TemplateError:
        poll = None
    return [] if poll is None else [_("outcome at GET %(path)s") % {"path": poll.text}]


def _fetch(route: RouteSpec) -> list[str]:
    kind = _("all records of %(topic)s as one JSON array") if route.merge else _("the newest record of %(topic)s")
    return [kind % {"topic": _topic(route.topic)} + _where(route)]


def _stream(route: RouteSpec) -> list[str]:
    start = {"latest": _("from the latest"), "timestamp": _("from a point in time")}.get(route.start, _("from the earliest"))
    return [_("event stream of %(topic)s") % {"topic": _topic(route.topic)} + _where(route), start]


def _where(route: RouteSpec) -> str:
    tests = [_filter_words(each) for each in route.filters]
    return _(" with %(tests)s") % {"tests": _any_of(tests)} if tests else ""


def _filter_words(each: FilterSpec) -> str:
    tests = [] if each.key is None else [_("key = %(key)s") % {"key": template_words(each.key, TemplatePlace.FILTER)}]
    tests += [f"{name} = {template_words(value, TemplatePlace.FILTER)}" for name, value in each.headers.items()]
    return _(" and ").join(tests)


def _for_whom(guarded: Mapping[str, Iterable[str]]) -> str:
    if not guarded:
        return ""
    whom = [
        _("%(guard)s with %(roles)s") % {"guard": guard, "roles": ", ".join(roles)} if roles else guard
        for guard, roles in guarded.items()
    ]
    return _(", only for %(guards)s") % {"guards": _(" and ").join(whom)}
