"""Guards, where credentials are found, and CORS. They decide which clients get in, so none of it is ever left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from django.utils.translation import gettext as _

from kafkaproxy.specs.types import AccessControlSpec, FilePlace
from kafkaproxy.zilla.bindings.grammar import JWT_OPTIONS
from kafkaproxy.zilla.bindings.graph import Binding, Declaration, Exit
from kafkaproxy.zilla.bindings.shape import has_expression, suggest
from kafkaproxy.zilla.importer.context import ImportContext
from kafkaproxy.zilla.plan import GuardPlan
from kafkaproxy.zilla.yaml.tree import Branch, Leaf, Node, plain_data

__all__ = ["STATIC_GUARDS", "access_control", "credentials", "guarded", "merge_guards", "own_name", "require_guard"]

STATIC_GUARDS: Final = frozenset({"inline", "identity"})
"""Guard types that hold a constant credential, for authenticating to Kafka."""

Roles = Mapping[str, tuple[str, ...]]


def require_guard(name: str, binding: Binding, place: FilePlace, context: ImportContext) -> None:
    """Import a guard that the binding names; refuse one whose type cannot be checked here."""
    guard = context.graph.guard(name, binding.namespace)
    if guard is None:
        names = [each for namespace, each in context.graph.guards if namespace == binding.namespace]
        context.report.refuse(
            place, _("There is no guard %(name)r.") % {"name": name}, suggest(name, names) if names else _("Define it.")
        )
        return
    known = context.guards.get(guard.name)
    if known is not None and known.place != guard.place:
        message = _("The guard %(name)r is not the one of %(place)s, which has the same name.") % {
            "name": name,
            "place": known.place,
        }
        context.report.refuse(place, message, _("Give the two guards different names: here they share one table."))
    elif known is None and (plan := _guard(guard.name, guard, context)) is not None:
        context.guards[guard.name] = plan


def _guard(name: str, guard: Declaration, context: ImportContext) -> GuardPlan | None:
    if guard.type != "jwt":
        message = _("The guard %(name)r has the type %(guard_type)r, which cannot be checked here.") % {
            "name": name,
            "guard_type": guard.type,
        }
        advice = _("It authenticates to Kafka and protects no route: remove it from guarded.")
        context.report.refuse(guard.place, message, advice if guard.type in STATIC_GUARDS else _("Use a guard of type jwt."))
        return None
    options = guard.options or Branch((), guard.place.line)
    context.variables.note(options, guard.place.file)
    problems = list(JWT_OPTIONS.problems(options, f"guards.{guard.name}.options"))
    for problem in problems:
        context.report.refuse(FilePlace(guard.place.file, problem.line), problem.message, problem.advice)
    if problems:
        return None
    for option in ("issuer", "audience", "keys"):
        value = options.get(option)
        if isinstance(value, Leaf):
            place = FilePlace(guard.place.file, value.line)
            context.variables.require(value.text, place, f"{option} of the guard {guard.name!r}")
    data = {key.text: _option(key.text, value, guard, context) for key, value in options.pairs}
    if _is_plain_http(options, context):
        data["allow_http"] = True
        message = _("The keys of the guard %(name)r come over plain HTTP: whoever is on the way could put in their own.") % {
            "name": name
        }
        context.report.warn(guard.place, message, _("Use https."))
    return GuardPlan(source=context.source, name=name, kind="jwt", options=data, place=guard.place)


def _is_plain_http(options: Branch, context: ImportContext) -> bool:
    """Return True if keys are fetched without TLS, which the reference allows."""
    keys = options.get("keys")
    location = keys if keys is not None else options.get("issuer")
    return isinstance(location, Leaf) and (context.variables.resolve(location.text) or "").startswith("http://")


def _option(name: str, value: Node, guard: Declaration, context: ImportContext) -> Any:
    if name != "challenge" or not isinstance(value, Leaf):
        return plain_data(value)
    if has_expression(value.text):
        context.report.refuse(
            FilePlace(guard.place.file, value.line), _("challenge cannot come from the environment."), _("Write it.")
        )
        return None
    return int(value.text)


def own_name(guard: Leaf) -> str:
    """Return the name of a guard without its namespace: here all guards share one table."""
    return guard.text.rpartition(":")[2]


def guarded(exit_: Exit, binding: Binding, context: ImportContext) -> Roles:
    """Return the roles that each guard of a route wants, and import the guards."""
    found: dict[str, tuple[str, ...]] = {}
    for guard, roles in exit_.guarded:
        place = binding.at(guard.line)
        require_guard(guard.text, binding, place, context)
        name = own_name(guard)
        found[name] = tuple(dict.fromkeys((*found.get(name, ()), *roles)))
        for role in roles:
            if "${" in role:
                message = _("The role %(role)r is compared as it is written: a jwt guard fills nothing in.") % {"role": role}
                context.report.warn(place, message, _("Nobody gets in unless a token holds exactly that role."))
    return found


def merge_guards(outer: Roles, inner: Roles) -> Roles:
    """Return the guards of two levels as one: all of them, each with all roles."""
    merged = dict(outer)
    for guard, roles in inner.items():
        merged[guard] = tuple(dict.fromkeys((*merged.get(guard, ()), *roles)))
    return merged


def credentials(http: Binding, context: ImportContext) -> dict[str, Any]:
    """Return the gateway's fields that say where the credentials of which guard are found."""
    section = http.options.branch("authorization")
    if section is None or not section.pairs:
        return {}
    guard, node = section.pairs[0]
    require_guard(guard.text, http, http.at(guard.line), context)
    places = node.branch("credentials") if isinstance(node, Branch) else None
    if places is None:
        return {}
    found = {f"credentials_{name}": _patterns(name, places.branch(name), http, context) for name in _PLACES}
    if not any(found.values()):
        context.report.refuse(
            http.at(places.line), _("There is no place for the credentials."), _("Add headers, cookies or query.")
        )
    return {"guard": own_name(guard), **found}


_PLACES: Final = ("cookies", "headers", "query")
_USERS: Final = re.compile(r"[^{}]*\{username\}[^{}]*\{password\}[^{}]*")
"""What a header may have instead of ``{credentials}``: ``Basic {username}:{password}``."""


def _patterns(place: str, branch: Branch | None, http: Binding, context: ImportContext) -> Mapping[str, str]:
    pairs = list(branch.text_items()) if branch is not None else []
    for name, pattern in pairs[1:]:
        message = _("%(name)r: the reference reads only the first place of a kind, %(pairs)r.") % {
            "name": name.text,
            "pairs": pairs[0][0].text,
        }
        context.report.warn(http.at(pattern.line), message, _("It is not imported."))
    for name, pattern in pairs[:1]:
        if place == "headers" and _USERS.fullmatch(pattern.text):
            message = _("%(name)s: user name and password together are the credential, which is never a token.") % {
                "name": name.text
            }
            advice = _("Nobody gets past the guard, as in the reference. Basic {username}:{credentials} takes the password.")
            context.report.warn(http.at(pattern.line), message, advice)
        elif pattern.text.count("{credentials}") != 1:
            message = _("%(name)s: %(pattern)r has no {credentials}.") % {"name": name.text, "pattern": pattern.text}
            advice = _("Write {credentials} where the token stands.")
            if place == "headers":
                advice += _(" Only Basic may have {username} and {password} instead.")
            context.report.refuse(http.at(pattern.line), message, advice)
    return {name.text: pattern.text for name, pattern in pairs[:1]}


def access_control(http: Binding | None, context: ImportContext) -> AccessControlSpec:
    """Return the CORS policy of an http server; without one, the reference's default."""
    section = http.options.branch("access-control") if http is not None else None
    if http is None or section is None:
        return AccessControlSpec()
    allow, expose = section.branch("allow") or _NOTHING, section.branch("expose") or _NOTHING
    with_credentials = allow.text("credentials") == "true"
    if with_credentials and "origins" not in allow:
        message = _("Credentials are allowed to every origin: any site can act as its visitor.")
        context.report.warn(http.at(allow.line_of("credentials")), message, _("List the origins."))
    return AccessControlSpec(
        policy=section.text("policy"),
        allow_origins=_texts(allow, "origins"),
        allow_methods=_texts(allow, "methods"),
        allow_headers=_texts(allow, "headers"),
        allow_credentials=with_credentials,
        max_age=_seconds(section, http, context),
        expose_headers=_texts(expose, "headers"),
    )


_NOTHING: Final = Branch((), 0)


def _texts(branch: Branch, name: str) -> tuple[str, ...] | None:
    return tuple(leaf.text for leaf in branch.texts(name)) if name in branch else None


def _seconds(section: Branch, http: Binding, context: ImportContext) -> int | None:
    text = section.text("max-age")
    if has_expression(text):
        context.report.refuse(
            http.at(section.line_of("max-age")), _("max-age cannot come from the environment."), _("Write it.")
        )
        return None
    return int(text) if text else None
